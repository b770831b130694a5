%%% starttls: TLS over a connection that has been in use, in init and in a lease, against OTP's ssl, openssl s_server and
%%% PostgreSQL; and what came in clear before it.
-module(sockpool_starttls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, assert_no_messages/0]).
-import(sockpool_tls_kit, [pem/2, key/2, identity/2, with_conn/2, told/1]).

-define(READY, "220 ready\r\n").
-define(ASK, <<"STARTTLS\r\n">>).
-define(GO, "220 go\r\n").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [in_init, in_a_pipeline, in_a_lease, versions, byte_by_byte, ktls, resumed, client_certificate, alpn, encrypted_key,
       wrong_certificates, wrong_certificate_in_init, server_name, silent, silent_in_init, hangs_up, answers_in_clear,
       injected_behind_the_line, injected_in_the_kernel, injected_in_init, files_of_no_use, bad_options, refused,
       busy, once_only, idle_end_is_noticed, killed_in_the_handshake, stopped_in_the_handshake, refused_client,
       refused_client_of_a_lease,
       many_at_once, smtp, postgres]}].

init_per_suite(Config) -> sockpool_tls_kit:start(Config).
end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

%% A name of its own: other suites of TLS have cases of these names.
init_per_testcase(Case, Config) -> [{pool, list_to_atom("starttls_" ++ atom_to_list(Case))} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

%%% A server that begins in clear, as SMTP's do.

server(Config) -> server(Config, []).

server(Config, Options) -> server_with([{log_level, none} | identity(Config, "server")] ++ Options).

server_with(Options) -> scripted(fun(Socket) -> secured(Socket, Options) end).

%% Then(Socket) is called when TLS is to begin.
scripted(Then) -> scripted(?GO, Then).

scripted(Go, Then) ->
    sockpool_test_server:start({script, fun(Socket) ->
        ok = gen_tcp:send(Socket, ?READY),
        case asked(Socket, <<>>) of
            tls -> _ = gen_tcp:send(Socket, Go), Then(Socket);
            closed -> ok
        end
    end}).

%% Whatever else comes is sent back.
asked(Socket, Before) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} ->
            case <<Before/binary, Data/binary>> of
                ?ASK -> tls;
                <<"S", _/binary>> = Part when byte_size(Part) < byte_size(?ASK) -> asked(Socket, Part);
                Other -> _ = gen_tcp:send(Socket, Other), asked(Socket, <<>>)
            end;
        {error, _} ->
            closed
    end.

secured(Socket, Options) ->
    case ssl:handshake(Socket, Options, 30000) of
        {ok, Secure} -> echo(Secure);
        {error, _} -> ok
    end.

echo(Secure) ->
    case ssl:recv(Secure, 0) of
        {ok, <<"close">>} -> ssl:close(Secure);
        {ok, Data} -> _ = ssl:send(Secure, Data), echo(Secure);
        {error, _} -> ok
    end.

%%% Its client.

pool(Config, Server, Opts) ->
    Pool = ?config(pool, Config),
    Few = #{host => "localhost", port => sockpool_test_server:port(Server), size => 1, max_overflow => 0,
            backoff => {1, 50}, connect_timeout => 30000, packet => line, init => fun greeted/1},
    ok = sockpool:start_pool(Pool, maps:merge(Few, Opts)),
    Pool.

greeted(Conn) ->
    {ok, <<?READY>>} = sockpool:recv(Conn, packet),
    ok.

asked(Conn) ->
    ok = sockpool:send(Conn, ?ASK),
    {ok, <<?GO>>} = sockpool:recv(Conn, packet),
    ok.

trusting(Config) -> #{cacertfile => pem(Config, "ca")}.

%% An init that goes on by TLS.
secures(Opts) ->
    fun(Conn) ->
            ok = greeted(Conn),
            ok = asked(Conn),
            sockpool:starttls(Conn, Opts, infinity)
    end.

echoes(Conn, Line) ->
    ok = sockpool:send(Conn, Line),
    ?assertEqual({ok, Line}, sockpool:recv(Conn, packet, 10000)).

%% Nothing goes over it any more, and it is not given to anybody.
unusable(Pool, Conn) ->
    #{created := Created, closed := Closed} = sockpool_test_util:stats(Pool),
    ?assertMatch({error, _}, sockpool:send(Conn, "in clear\n")),
    ?assertMatch({error, _}, sockpool:recv(Conn, packet, 100)),
    ?assertMatch({error, {bad_option, transport, tls}}, sockpool:starttls(Conn, #{})),
    ok = sockpool:checkin(Conn),
    wait_until(fun() -> stat(Pool, created) =:= Created + 1 end),
    ?assertEqual(Closed + 1, stat(Pool, closed)).

%% What starttls says in a lease, after which the connection is of no use.
failing(Config, Server, Opts) ->
    Pool = pool(Config, Server, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = asked(Conn),
    {error, Reason} = sockpool:starttls(Conn, Opts),
    unusable(Pool, Conn),
    ok = sockpool:stop_pool(Pool),
    Reason.

%%% What it is good for.

in_init(Config) ->
    Pool = pool(Config, server(Config), #{init => secures(trusting(Config))}),
    Info = told(Pool),
    ?assertMatch(#{transport := tls, protocol := 'tlsv1.3', packet := line, resumed := false, alpn := undefined}, Info),
    ?assertEqual(sockpool_tls_peers:der(pem(Config, "server")), maps:get(peercert, Info)),
    [?assertEqual({ok, <<"hello\n">>}, sockpool:request(Pool, "hello\n", packet, 5000)) || _ <- lists:seq(1, 10)],
    Long = <<(binary:copy(<<"x">>, 300000))/binary, "\n">>,
    with_conn(Pool, fun(Conn) -> echoes(Conn, Long), ok = sockpool:setopts(Conn, [{packet, raw}]) end),
    ?assertEqual(#{transport => tls, packet => line}, maps:with([transport, packet], told(Pool))),
    ?assertMatch(#{created := 1, closed := 0, connect_failures := 0}, settled(Pool)),
    assert_no_messages().

in_a_pipeline(Config) ->
    Pool = pool(Config, server(Config), #{init => secures(trusting(Config)), pipeline => 8}),
    ?assertMatch(#{created := 1, connect_failures := 0}, settled(Pool)),
    Asking = [spawn_monitor(fun() ->
                  Line = <<"hello ", (integer_to_binary(N))/binary, "\n">>,
                  ?assertEqual({ok, Line}, sockpool:request(Pool, Line, packet, 10000))
              end) || N <- lists:seq(1, 20)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Asking],
    ?assertMatch(#{transport := tls}, told(Pool)),
    ?assertMatch(#{created := 1, closed := 0, pipelined := 20}, settled(Pool)).

%% The next one must not get what he did not ask for.
in_a_lease(Config) ->
    Pool = pool(Config, server(Config), #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    echoes(Conn, <<"clear\n">>),
    ok = asked(Conn),
    ?assertEqual(ok, sockpool:starttls(Conn, maps:to_list(trusting(Config)))),
    echoes(Conn, <<"secret\n">>),
    {ok, #{transport := tls}} = sockpool:info(Conn),
    ok = sockpool:checkin(Conn),
    with_conn(Pool, fun(Next) ->
                            {ok, #{transport := tcp}} = sockpool:info(Next),
                            echoes(Next, <<"clear\n">>)
                    end),
    ?assertMatch(#{created := 2, closed := 1, checkins := 2}, settled(Pool)),
    assert_no_messages().

versions(Config) ->
    [begin
         Server = server(Config, [{versions, [Version]}]),
         Pool = pool(Config, Server, #{init => secures(trusting(Config))}),
         ?assertMatch(#{transport := tls, protocol := Version}, told(Pool)),
         with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
         ok = sockpool:stop_pool(Pool)
     end || Version <- ['tlsv1.2', 'tlsv1.3']],
    ?assertMatch({tls, _}, failing(Config, server(Config, [{versions, ['tlsv1.2']}]),
                                   (trusting(Config))#{versions => ['tlsv1.3']})).

%% Through somebody who passes on one byte at a time, both ways.
byte_by_byte(Config) ->
    #{port := Port} = server(Config),
    Proxy = sockpool_test_server:start({script, fun(Client) ->
        {ok, Server} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
        Self = self(),
        Back = spawn_link(fun() -> receive go -> crumbs(Server, Client), Self ! back end end),
        ok = gen_tcp:controlling_process(Server, Back),
        Back ! go,
        crumbs(Client, Server),
        gen_tcp:shutdown(Server, write),
        receive back -> ok end
    end}),
    Pool = pool(Config, Proxy, #{init => secures(trusting(Config))}),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
    ?assertMatch(#{created := 1, connect_failures := 0}, settled(Pool)).

crumbs(From, To) ->
    case gen_tcp:recv(From, 0) of
        {ok, Data} -> [gen_tcp:send(To, <<Byte>>) || <<Byte>> <= Data], crumbs(From, To);
        {error, _} -> ok
    end.

%% Where the kernel does not, OpenSSL does it as ever.
ktls(Config) ->
    Pool = pool(Config, server(Config), #{init => secures((trusting(Config))#{ktls => true})}),
    ct:log("~p", [maps:get(ktls, told(Pool))]),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% By a ticket of the one connection before, which is closed by then. OTP's ssl gives them where it listens itself.
resumed(Config) ->
    #{port := Port} = sockpool_tls_peers:ssl_server([{session_tickets, stateless}, {versions, ['tlsv1.3']} | identity(Config, "server")]),
    Self = self(),
    Server = scripted(fun(Client) ->
        {ok, Behind} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
        passed_on(Client, Behind),
        Self ! over
    end),
    %% Options of its own, since those who have the same share the tickets.
    Pool = pool(Config, Server, #{size => 0, max_overflow => 1, init => secures((trusting(Config))#{alpn => ["resumed"]})}),
    {ok, Conn} = sockpool:checkout(Pool),
    echoes(Conn, <<"hello\n">>),
    {ok, #{resumed := false}} = sockpool:info(Conn),
    ok = sockpool:discard(Conn),
    receive over -> ok end,
    ?assertMatch(#{resumed := true}, told(Pool)),
    with_conn(Pool, fun(Next) -> echoes(Next, <<"hello\n">>) end).

%% Both ways, until one of them ends, which may be so.
passed_on(One, Two) ->
    _ = [inet:setopts(Socket, [{active, true}]) || Socket <- [One, Two]],
    (fun Pass() ->
            receive
                {tcp, One, Data} -> _ = gen_tcp:send(Two, Data), Pass();
                {tcp, Two, Data} -> _ = gen_tcp:send(One, Data), Pass();
                {tcp_closed, _} -> gen_tcp:close(Two)
            end
    end)().

client_certificate(Config) ->
    Server = server(Config, [{verify, verify_peer}, {fail_if_no_peer_cert, true}, {cacertfile, pem(Config, "ca")}]),
    Opts = (trusting(Config))#{certfile => pem(Config, "client"), keyfile => key(Config, "client")},
    Pool = pool(Config, Server, #{init => secures(Opts)}),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end).

alpn(Config) ->
    Pool = pool(Config, server(Config, [{alpn_preferred_protocols, [<<"two">>, <<"one">>]}]),
                #{init => secures((trusting(Config))#{alpn => ["one", "two"]})}),
    ?assertMatch(#{alpn := <<"two">>}, told(Pool)).

encrypted_key(Config) ->
    Opts = (trusting(Config))#{certfile => pem(Config, "client"), keyfile => filename:join(?config(tls_dir, Config), "client.enc.key")},
    Right = Opts#{password => fun() -> "open-sesame" end},
    Pool = pool(Config, server(Config), #{init => secures(Right)}),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
    ok = sockpool:stop_pool(Pool),
    [?assertEqual({tls, {password, Why}}, failing(Config, server(Config), Given))
     || {Given, Why} <- [{Opts, password_required}, {Opts#{password => fun() -> "wrong" end}, bad_password},
                         {Opts#{password => fun() -> error(mine) end}, raised}]],
    Slow = Opts#{password => fun() -> receive never -> ok end end},
    Again = pool(Config, server(Config), #{}),
    {ok, Conn} = sockpool:checkout(Again),
    ok = asked(Conn),
    ?assertEqual({error, {tls, {password, timeout}}}, sockpool:starttls(Conn, Slow, 50)),
    unusable(Again, Conn).

%%% Who is not trusted.

wrong_certificates(Config) ->
    Fails = fun(Certificate, Opts) ->
                    failing(Config, server_with([{log_level, none} | identity(Config, Certificate)]), Opts)
            end,
    Trusting = trusting(Config),
    ?assertEqual({tls, hostname_mismatch}, Fails("elsewhere", Trusting)),
    ?assertEqual({tls, certificate_expired}, Fails("expired", Trusting)),
    ?assertEqual({tls, self_signed}, Fails("self", Trusting)),
    ?assertEqual({tls, unknown_ca}, Fails("server", #{cacertfile => pem(Config, "other_ca")})),
    ?assertEqual({tls, unknown_ca}, Fails("server", #{})),
    Pool = pool(Config, server_with([{log_level, none} | identity(Config, "elsewhere")]),
                #{init => secures(#{verify => none})}),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end).

wrong_certificate_in_init(Config) ->
    Pool = pool(Config, server_with([{log_level, none} | identity(Config, "elsewhere")]), #{init => secures(trusting(Config))}),
    ?assertEqual({init, {tls, hostname_mismatch}}, sockpool_test_util:unavailable(Pool)),
    ?assertMatch(#{created := 0, idle := 0}, sockpool_test_util:stats(Pool)).

%% Of the pool the host that this connection is to, an address too, or what is given.
server_name(Config) ->
    Server = server(Config),
    Init = fun(Opts) -> #{init => secures(maps:merge(trusting(Config), Opts))} end,
    [begin
         Pool = pool(Config, Server, Opts),
         with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
         ok = sockpool:stop_pool(Pool)
     end || Opts <- [(Init(#{}))#{host => "127.0.0.1"}, (Init(#{}))#{host => [{127, 0, 0, 9}, "localhost"]},
                     Init(#{server_name => "127.0.0.1"})]],
    Names = fun("localhost") -> identity(Config, "server");
               ("other") -> identity(Config, "elsewhere")
            end,
    Asked = server_with([{log_level, none}, {sni_fun, Names} | identity(Config, "self")]),
    Pool = pool(Config, Asked, Init(#{})),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({tls, hostname_mismatch}, failing(Config, Asked, (trusting(Config))#{server_name => "other"})).

%%% A server that does not do its part.

silent(Config) ->
    Pool = pool(Config, scripted(fun(Socket) -> gen_tcp:recv(Socket, 0), receive after infinity -> ok end end), #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = asked(Conn),
    Begun = erlang:monotonic_time(millisecond),
    ?assertEqual({error, timeout}, sockpool:starttls(Conn, trusting(Config), 200)),
    ?assert(erlang:monotonic_time(millisecond) - Begun >= 200),
    ?assertEqual({error, closed}, sockpool:send(Conn, "in clear\n")),
    unusable(Pool, Conn),
    assert_no_messages().

silent_in_init(Config) ->
    Pool = pool(Config, scripted(fun(_) -> receive after infinity -> ok end end),
                #{init => secures(trusting(Config)), connect_timeout => 300}),
    ?assertEqual(timeout, sockpool_test_util:unavailable(Pool)),
    wait_until(fun() -> stat(Pool, connect_failures) > 1 end).

hangs_up(Config) ->
    HangsUp = fun(Socket) -> {ok, _} = gen_tcp:recv(Socket, 0), ok = gen_tcp:shutdown(Socket, write), drained(Socket) end,
    ?assertEqual({tls, closed}, failing(Config, scripted(HangsUp), trusting(Config))).

%% Who closes with bytes unread resets the connection.
drained(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, _} -> drained(Socket);
        {error, closed} -> ok
    end.

answers_in_clear(Config) ->
    Server = scripted(fun(Socket) -> _ = gen_tcp:recv(Socket, 0), gen_tcp:send(Socket, "500 what?\r\n"), drained(Socket) end),
    ?assertEqual({tls, not_tls}, failing(Config, Server, trusting(Config))).

%% CVE-2011-0411: what somebody between the two has put behind the answer in clear.
injected_behind_the_line(Config) ->
    Server = scripted(?GO "250 injected\r\n", fun(Socket) -> secured(Socket, identity(Config, "server")) end),
    Pool = pool(Config, Server, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, ?ASK),
    {ok, <<?GO>>} = sockpool:recv(Conn, packet),
    ?assertEqual({ok, <<"250 injected\r\n">>}, sockpool:recv(Conn, packet)),
    ok = sockpool:discard(Conn),
    {ok, Next} = sockpool:checkout(Pool),
    ok = asked(Next),
    ?assertEqual({error, {unread_bytes, <<"250 injected">>}}, sockpool:starttls(Next, trusting(Config))),
    ?assertEqual({error, closed}, sockpool:recv(Next, packet, 1000)),
    ?assertEqual({error, closed}, sockpool:send(Next, "in clear\n")),
    unusable(Pool, Next).

%% Where the user has taken no more than he wanted, and the rest is with the system.
injected_in_the_kernel(Config) ->
    Server = scripted("Sx", fun(Socket) -> secured(Socket, identity(Config, "server")) end),
    Pool = pool(Config, Server, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:setopts(Conn, [{packet, raw}]),
    ok = sockpool:send(Conn, ?ASK),
    {ok, <<"S">>} = sockpool:recv(Conn, 1),
    ?assertEqual({error, {unread_bytes, <<"x">>}}, sockpool:starttls(Conn, trusting(Config))),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 1, 1000)),
    unusable(Pool, Conn).

injected_in_init(Config) ->
    Server = scripted(?GO "250 injected\r\n", fun(Socket) -> secured(Socket, identity(Config, "server")) end),
    Pool = pool(Config, Server, #{init => fun(Conn) ->
                                                  ok = greeted(Conn),
                                                  ok = asked(Conn),
                                                  sockpool:starttls(Conn, trusting(Config))
                                          end}),
    ?assertEqual({init, {unread_bytes, <<"250 injected">>}}, sockpool_test_util:unavailable(Pool)),
    ok = sockpool:stop_pool(Pool),
    %% Also of an init that does not care.
    Careless = pool(Config, Server, #{init => fun(Conn) ->
                                                      ok = greeted(Conn),
                                                      ok = asked(Conn),
                                                      _ = sockpool:starttls(Conn, trusting(Config)),
                                                      ok
                                              end}),
    ?assertEqual(closed, sockpool_test_util:unavailable(Careless)),
    ?assertMatch(#{created := 0, idle := 0}, sockpool_test_util:stats(Careless)).

%%% Arguments.

%% It was asked for TLS, so nothing is said in clear by mistake.
files_of_no_use(Config) ->
    ?assertEqual({tls, {cacertfile, enoent}}, failing(Config, server(Config), #{cacertfile => "no/such/file"})),
    ?assertEqual({tls, {ciphers, unknown}}, failing(Config, server(Config), (trusting(Config))#{ciphers => "none-such"})).

%% Nothing was done then.
bad_options(Config) ->
    Pool = pool(Config, server(Config), #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    [?assertEqual({error, Bad}, sockpool:starttls(Conn, Opts))
     || {Opts, Bad} <- [{#{verify => maybe_later}, {bad_option, {tls, verify}, maybe_later}},
                        {#{colour => red}, {bad_option, {tls, colour}, not_shown}},
                        {#{keyfile => "x"}, {bad_option, {tls, certfile}, undefined}},
                        {no_options, {bad_option, tls, not_a_list_of_options}},
                        {[{verify, x}, {verify, none}], {bad_option, {tls, verify}, x}},
                        {#{password => "secret"}, {bad_option, {tls, password}, not_a_fun}}]],
    [?assertEqual({error, {bad_argument, timeout, Timeout}}, sockpool:starttls(Conn, #{}, Timeout))
     || Timeout <- [-1, soon, 1 bsl 40]],
    echoes(Conn, <<"clear\n">>),
    ok = asked(Conn),
    ok = sockpool:starttls(Conn, trusting(Config)),
    echoes(Conn, <<"secret\n">>),
    ok = sockpool:checkin(Conn).

refused(Config) ->
    Pool = pool(Config, server(Config), #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:starttls(Conn, trusting(Config)) end))),
    echoes(Conn, <<"clear\n">>),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, sockpool:starttls(Conn, #{})),
    ?assertEqual({error, {bad_argument, conn, Pool}}, sockpool:starttls(Pool, #{})),
    ok = sockpool:stop_pool(Pool),
    Path = sockpool_test_util:unix_path(),
    _ = sockpool_test_server:start(echo, #{path => Path}),
    ok = sockpool:start_pool(Pool, #{transport => unix, path => Path}),
    with_conn(Pool, fun(Unix) -> ?assertEqual({error, {bad_option, transport, unix}}, sockpool:starttls(Unix, #{})) end),
    ok = sockpool:stop_pool(Pool),
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => fun() -> {ok, spawn_link(fun() -> receive x -> ok end end)} end}),
    {ok, Worker} = sockpool:checkout(Pool),
    ?assertEqual({error, {bad_option, transport, worker}}, sockpool:starttls(Worker, #{})),
    ok = sockpool:checkin(Worker).

busy(Config) ->
    Pool = pool(Config, server(Config), #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Ref = make_ref(),
    wait = sockpool_nif:recv(Conn, packet, again, Ref),
    ?assertEqual({error, busy}, sockpool:starttls(Conn, trusting(Config))),
    cancelled = sockpool_nif:park(Conn),
    ok = asked(Conn),
    ok = sockpool:starttls(Conn, trusting(Config)),
    echoes(Conn, <<"secret\n">>),
    ok = sockpool:checkin(Conn).

once_only(Config) ->
    Pool = pool(Config, server(Config), #{init => secures(trusting(Config))}),
    with_conn(Pool, fun(Conn) ->
                            ?assertEqual({error, {bad_option, transport, tls}}, sockpool:starttls(Conn, trusting(Config))),
                            echoes(Conn, <<"secret\n">>)
                    end),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%%% Ends.

%% As that of one which was TLS from the start: by the server's word that it ends.
idle_end_is_noticed(Config) ->
    Pool = pool(Config, server(Config), #{init => secures(trusting(Config))}),
    with_conn(Pool, fun(Conn) -> ok = sockpool:send(Conn, "close") end),
    wait_until(fun() -> stat(Pool, created) =:= 2 end),
    with_conn(Pool, fun(Conn) -> echoes(Conn, <<"hello\n">>) end).

killed_in_the_handshake(Config) ->
    Self = self(),
    Pool = pool(Config, scripted(fun(Socket) -> {ok, _} = gen_tcp:recv(Socket, 0), Self ! begun, drained(Socket) end), #{}),
    [begin
         {Pid, Monitor} = spawn_monitor(fun() ->
             {ok, Conn} = sockpool:checkout(Pool),
             ok = asked(Conn),
             sockpool:starttls(Conn, trusting(Config), infinity)
         end),
         receive begun -> ok end,
         true = exit(Pid, kill),
         receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
         wait_until(fun() -> stat(Pool, abandoned) =:= N end)
     end || N <- lists:seq(1, 5)],
    ?assertMatch(#{closed := 5, leased := 0}, settled(Pool)).

stopped_in_the_handshake(Config) ->
    Self = self(),
    Pool = pool(Config, scripted(fun(Socket) -> {ok, _} = gen_tcp:recv(Socket, 0), Self ! begun, drained(Socket) end), #{}),
    Job = start(fun() ->
        {ok, Conn} = sockpool:checkout(Pool),
        ok = asked(Conn),
        Result = sockpool:starttls(Conn, trusting(Config), infinity),
        assert_no_messages(),
        Result
    end),
    receive begun -> ok end,
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, closed}, await(Job)).

%% Of TLS 1.3 a client is refused when the handshake is done on our side. Where init has done that, it is a failure to
%% connect: the next attempt waits.
refused_client(Config) ->
    Reason = {tls, {alert, certificate_required}},
    {Server, Passes} = refusing_server(Config),
    Pool = pool(Config, Server, #{init => secures(trusting(Config)), backoff => {3600000, 3600000}}),
    {ok, Conn} = sockpool:checkout(Pool),
    Passes(),
    ?assertEqual({error, Reason}, sockpool:recv(Conn, packet, 10000)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, {unavailable, Reason}}, sockpool:checkout(Pool, 2000)),
    ?assertMatch(#{connect_attempts := 1, created := 1}, sockpool_test_util:stats(Pool)).

%% Where a user has, it is his.
refused_client_of_a_lease(Config) ->
    {Server, Passes} = refusing_server(Config),
    Pool = pool(Config, Server, #{backoff => {3600000, 3600000}}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = asked(Conn),
    ok = sockpool:starttls(Conn, trusting(Config)),
    Passes(),
    ?assertEqual({error, {tls, {alert, certificate_required}}}, sockpool:recv(Conn, packet, 10000)),
    ok = sockpool:checkin(Conn),
    wait_until(fun() -> stat(Pool, idle) =:= 1 end),
    ?assertMatch(#{connect_failures := 0, created := 2}, sockpool_test_util:stats(Pool)).

%% And what has it pass on to its first client what it says when that has answered its handshake.
refusing_server(Config) ->
    #{port := Port} = sockpool_tls_peers:ssl_server([{versions, ['tlsv1.3']}, {verify, verify_peer},
                                                     {fail_if_no_peer_cert, true}, {cacertfile, pem(Config, "ca")}
                                                     | identity(Config, "server")]),
    Self = self(),
    Server = scripted(fun(Client) ->
        {ok, Behind} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
        Self ! {relay, self()},
        [ok = inet:setopts(Socket, [{active, true}]) || Socket <- [Client, Behind]],
        ok = until_answered(Client, Behind, false),
        receive pass -> passed_on(Client, Behind) end
    end),
    {Server, fun() -> receive {relay, Relay} -> Relay ! pass end end}.

until_answered(Client, Behind, HasSpoken) ->
    receive
        {tcp, Behind, Data} ->
            ok = gen_tcp:send(Client, Data),
            until_answered(Client, Behind, true);
        {tcp, Client, Data} ->
            ok = gen_tcp:send(Behind, Data),
            case HasSpoken of
                true -> ok;
                false -> until_answered(Client, Behind, false)
            end
    end.

many_at_once(Config) ->
    Pool = pool(Config, server(Config), #{size => 20, max_overflow => 0, init => secures(trusting(Config))}),
    wait_until(fun() -> stat(Pool, idle) =:= 20 end),
    _ = sockpool_test_util:run_all([fun() ->
        [with_conn(Pool, fun(Conn) -> echoes(Conn, <<N:32, "\n">>) end) || _ <- lists:seq(1, 20)]
    end || N <- lists:seq(16#30303030, 16#30303030 + 39)]),
    ?assertMatch(#{connect_failures := 0, closed := 0}, settled(Pool)).

%%% Servers of others.

%% stunnel speaks as much of SMTP as it takes.
smtp(Config) ->
    {Server, Pool} = smtp_pool(Config),
    [with_conn(Pool, fun(Conn) ->
                             {ok, #{transport := tls, protocol := 'tlsv1.3'}} = sockpool:info(Conn),
                             echoes(Conn, <<"NOOP\r\n">>)
                     end) || _ <- lists:seq(1, 10)],
    ?assertMatch(#{created := 1, closed := 0, connect_failures := 0}, settled(Pool)),
    sockpool_tls_peers:stop(Server).

smtp_pool(Config) ->
    Behind = scripted(fun(_) -> ok end),
    Server = #{port := Port} = sockpool_tls_peers:stunnel(?config(tls_dir, Config), "server", sockpool_test_server:port(Behind),
                                                          "protocol = smtp\n"),
    Init = fun(Conn) ->
                   {ok, <<"220 ", _/binary>>} = sockpool:recv(Conn, packet),
                   ok = sockpool:send(Conn, "EHLO me\r\n"),
                   ok = until_last(Conn),
                   ok = sockpool:send(Conn, ?ASK),
                   {ok, <<"220 ", _/binary>>} = sockpool:recv(Conn, packet),
                   sockpool:starttls(Conn, trusting(Config))
           end,
    {Server, pool(Config, Server, #{port => Port, init => Init})}.

until_last(Conn) ->
    case sockpool:recv(Conn, packet) of
        {ok, <<"250 ", _/binary>>} -> ok;
        {ok, <<"250-", _/binary>>} -> until_last(Conn)
    end.

postgres(Config) ->
    case sockpool_test_postgres:missing() of
        [] ->
            Server = sockpool_test_postgres:start(pem(Config, "server"), key(Config, "server")),
            try
                with_postgres(Config, Server)
            after
                sockpool_test_postgres:stop(Server)
            end;
        Missing ->
            {skip, {missing, Missing}}
    end.

with_postgres(Config, Server) ->
    Init = fun(Conn) ->
                   ok = sockpool:send(Conn, <<8:32, 80877103:32>>),
                   {ok, <<"S">>} = sockpool:recv(Conn, 1),
                   ok = sockpool:starttls(Conn, trusting(Config)),
                   {ok, sockpool_test_postgres:log_in(Conn)}
           end,
    Pool = pool(Config, Server, #{packet => raw, size => 3, init => Init}),
    wait_until(fun() -> stat(Pool, idle) =:= 3 end),
    Secret = fun(Conn) ->
                     {ok, #{parameters := #{<<"client_encoding">> := _}}} = sockpool:state(Conn),
                     sockpool_test_postgres:query(Conn, "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
             end,
    [?assertEqual([[<<"t">>, <<"TLSv1.3">>]], with_conn(Pool, Secret)) || _ <- lists:seq(1, 20)],
    Large = fun(Conn) -> sockpool_test_postgres:query(Conn, "SELECT repeat('x', 300000)") end,
    ?assertEqual([[binary:copy(<<"x">>, 300000)]], with_conn(Pool, Large)),
    ?assertMatch(#{created := 3, closed := 0, connect_failures := 0}, settled(Pool)).
