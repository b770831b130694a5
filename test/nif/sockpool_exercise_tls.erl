%%% Part of the exercise: transport => tls, against `openssl s_server', which answers each line with
%%% the line reversed, one connection after the other; and against the benchmark's echo server, which
%%% takes many.
-module(sockpool_exercise_tls).

-export([tls/0, connects/0]).

-import(sockpool_exercise_util, [started/1, settled/1, until/1, in_parallel/2]).

-define(CONNECTS, 20).
-define(CLIENTS, 4).

%% @doc Connections made, resumed, used and closed; options reloaded; servers that are not trusted;
%% connectors killed within their handshake.
-spec tls() -> ok.
tls() ->
    Dir = certified(),
    {Server, Port} = server(Dir),
    Tls = #{cacertfile => filename:join(Dir, "cert.pem"), server_name => "exercise",
            keylog => filename:join(Dir, "keys"), certfile => filename:join(Dir, "cert.pem"),
            keyfile => filename:join(Dir, "key.pem")},
    Opts = #{host => {127, 0, 0, 1}, port => Port, size => 1, packet => line, transport => tls,
             connect_timeout => 60000, tls => Tls},
    used(Opts),
    refused(Opts),
    killed(Opts),
    upgraded(Dir, Port, Tls),
    true = port_close(Server),
    _ = os:cmd("rm -r " ++ Dir),
    ok.

certified() ->
    Dir = filename:join("/tmp", "sockpool-exercise-" ++ os:getpid()),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    _ = certificate(Dir),
    Dir.

certificate(Dir) ->
    os:cmd("cd " ++ Dir ++ " && openssl req -x509 -nodes -newkey ec -pkeyopt "
           "ec_paramgen_curve:P-256 -days 2 -keyout key.pem -out cert.pem -subj /CN=exercise "
           "-addext subjectAltName=DNS:exercise").

%% Through a shell, so that it ends when this VM does, however that comes.
server(Dir) ->
    Port = sockpool_test_port:free(),
    Command = io_lib:format("openssl s_server -rev -accept 127.0.0.1:~b -cert ~s -key ~s </dev/null "
                            ">/dev/null 2>&1 & cat; kill $!",
                            [Port, filename:join(Dir, "cert.pem"), filename:join(Dir, "key.pem")]),
    Server = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", lists:flatten(Command)]}]),
    until(fun() ->
                  case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
                      {ok, Socket} -> ok =:= gen_tcp:close(Socket);
                      {error, _} = Error -> Error
                  end
          end),
    {Server, Port}.

used(Opts) ->
    Name = started(Opts),
    Resumed = [used_once(Name) || _ <- lists:seq(1, ?CONNECTS)],
    true = lists:member(true, Resumed),
    ok = sockpool:reload_tls(Name),
    _ = used_once(Name),
    settled(Name),
    ok = sockpool:stop_pool(Name).

used_once(Name) ->
    {ok, <<"olleh\n">>} = sockpool:request(Name, ["hel", "lo\n"], packet, 60000),
    {ok, Conn} = sockpool:checkout(Name, 60000),
    {ok, #{protocol := 'tlsv1.3', resumed := Resumed}} = sockpool:info(Conn),
    Line = binary:copy(<<"x">>, 5000),
    ok = sockpool:send(Conn, [Line, "\n"], 60000),
    {ok, <<Line:5000/binary, "\n">>} = sockpool:recv(Conn, 0, 60000),
    ok = sockpool:discard(Conn),
    Resumed.

refused(#{tls := Tls} = Opts) ->
    Name = started(Opts#{tls := Tls#{server_name := "another"}}),
    until(fun() ->
                  sockpool:checkout(Name, 200) =:= {error, {unavailable, {tls, hostname_mismatch}}}
          end),
    ok = sockpool:stop_pool(Name),
    {error, {tls, {cacertfile, enoent}}} =
        sockpool:start_pool(Name, Opts#{tls := Tls#{cacertfile := "/nonexistent"}}),
    ok.

%% The server takes one connection: the others wait within their handshake, and die there.
killed(Opts) ->
    Name = started(Opts#{size := 5, connect_timeout := 300}),
    until(fun() ->
                  {ok, #{connect_failures := Failures}} = sockpool:stats(Name),
                  Failures >= 4
          end),
    ok = sockpool:stop_pool(Name).

%% Through somebody who begins in clear: connections that go on by TLS in init and in a lease, that are not trusted, that
%% have something injected, whose owners are killed in the handshake, and a pool that is stopped then.
upgraded(Dir, To, Tls) ->
    Self = self(),
    Relay = spawn_link(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
        Self ! {relay, inet:port(Listener)},
        relays(Listener, To, Self)
    end),
    {ok, Port} = receive {relay, Listens} -> Listens end,
    Secure = fun(Ask, Opts) -> fun(Conn) -> ok = sockpool:send(Conn, Ask), {ok, <<"S">>} = sockpool:recv(Conn, 1),
                                            sockpool:starttls(Conn, Opts, 60000)
                               end end,
    Opts = #{host => {127, 0, 0, 1}, port => Port, size => 1, max_overflow => 0, connect_timeout => 60000},
    Name = started(Opts#{packet => line, init => Secure("s", Tls)}),
    _ = [used_once(Name) || _ <- lists:seq(1, 5)],
    ok = sockpool:stop_pool(Name),
    Clear = started(Opts#{size := 3}),
    Results = [begin
                   {ok, Conn} = sockpool:checkout(Clear, 60000),
                   Result = (Secure(Ask, Given))(Conn),
                   _ = sockpool:send(Conn, "hello\n"),
                   ok = sockpool:checkin(Conn),
                   Result
               end || {Ask, Given} <- [{"s", Tls}, {"s", Tls#{server_name := "another"}}, {"i", Tls},
                                       {"s", Tls#{cacertfile := filename:join(Dir, "none")}}]],
    [ok, {error, {tls, hostname_mismatch}}, {error, {unread_bytes, <<"injected">>}}, {error, {tls, {cacertfile, enoent}}}] = Results,
    Waits = fun() -> {ok, Conn} = sockpool:checkout(Clear, 60000), (Secure("h", Tls))(Conn) end,
    Waiting = [spawn_monitor(Waits) || _ <- [1, 2, 3]],
    [receive held -> ok end || _ <- Waiting],
    [{First, _} | _] = Waiting,
    true = exit(First, kill),
    ok = sockpool:stop_pool(Clear),
    [receive {'DOWN', Monitor, process, Pid, _} -> ok end || {Pid, Monitor} <- Waiting],
    true = unlink(Relay),
    true = exit(Relay, kill),
    ok.

relays(Listener, To, Test) ->
    {ok, Client} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> relay(Client, To, Test) end end),
    ok = gen_tcp:controlling_process(Client, Pid),
    Pid ! go,
    relays(Listener, To, Test).

relay(Client, To, Test) ->
    case gen_tcp:recv(Client, 1) of
        {ok, <<"h">>} ->
            ok = gen_tcp:send(Client, "S"),
            {ok, _Hello} = gen_tcp:recv(Client, 0),
            Test ! held,
            receive after infinity -> ok end;
        {ok, Ask} ->
            ok = gen_tcp:send(Client, case Ask of <<"i">> -> "Sinjected"; <<"s">> -> "S" end),
            {ok, Server} = gen_tcp:connect({127, 0, 0, 1}, To, [binary, {active, true}]),
            ok = inet:setopts(Client, [{active, true}]),
            passed_on(Client, Server);
        {error, _} ->
            ok
    end.

passed_on(Client, Server) ->
    receive
        {tcp, Client, Data} -> _ = gen_tcp:send(Server, Data), passed_on(Client, Server);
        {tcp, Server, Data} -> _ = gen_tcp:send(Client, Data), passed_on(Client, Server);
        {tcp_closed, _} -> ok
    end.

%% @doc SOCKPOOL_TLS_CONNECTS connections in all, each used and then closed. Half of them may resume,
%% half of them must not. For scripts/exercise_vm.sh, which has built the server.
-spec connects() -> ok.
connects() ->
    Half = list_to_integer(os:getenv("SOCKPOOL_TLS_CONNECTS")) div 2,
    Dir = certified(),
    {Server, Port} = echo_server(Dir),
    [begin
         Tls = #{cacertfile => filename:join(Dir, "cert.pem"), server_name => "exercise",
                 session_reuse => Reuse},
         Name = started(#{host => {127, 0, 0, 1}, port => Port, size => ?CLIENTS,
                          connect_timeout => 60000, transport => tls, tls => Tls}),
         Resumed = atomics:new(1, []),
         Share = Half div ?CLIENTS,
         ok = in_parallel(?CLIENTS, fun(_) -> echo_often(Name, Resumed, Share) end),
         settled(Name),
         {ok, #{created := Created, connect_failures := 0}} = sockpool:stats(Name),
         io:format("exercise: ~b connects, ~b of those that were used had resumed~n",
                   [Created, atomics:get(Resumed, 1)]),
         true = Created >= Share * ?CLIENTS,
         true = case Reuse of
                    true -> atomics:get(Resumed, 1) > Share * ?CLIENTS * 0.9;
                    false -> atomics:get(Resumed, 1) =:= 0
                end,
         ok = sockpool:stop_pool(Name)
     end || Reuse <- [true, false]],
    true = port_close(Server),
    _ = os:cmd("rm -r " ++ Dir),
    ok.

%% It ends when its stdin is closed, with the port or with this VM.
echo_server(Dir) ->
    Server = open_port({spawn_executable, "bench/bin/tls_echo_server"},
                       [{args, ["0", filename:join(Dir, "cert.pem"), filename:join(Dir, "key.pem")]},
                        {line, 64}, exit_status]),
    receive
        {Server, {data, {eol, Port}}} -> {Server, list_to_integer(Port)};
        {Server, {exit_status, Status}} -> error({tls_echo_server, {exit_status, Status}})
    end.

echo_often(_Name, _Resumed, 0) ->
    ok;
echo_often(Name, Resumed, Left) ->
    Conn = case sockpool:checkout(Name, 60000) of
               {ok, Checked} -> Checked;
               {error, Reason} -> error({Reason, {left, Left}, sockpool:stats(Name)})
           end,
    ok = sockpool:send(Conn, ["hel", "lo"], 60000),
    {ok, <<"hello">>} = sockpool:recv(Conn, 5, 60000),
    {ok, #{resumed := Is}} = sockpool:info(Conn),
    _ = [ok = atomics:add(Resumed, 1, 1) || Is],
    ok = sockpool:discard(Conn),
    echo_often(Name, Resumed, Left - 1).
