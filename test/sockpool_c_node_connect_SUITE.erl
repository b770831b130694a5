%%% How pools of the C node connect with transport => node, what it does with what a node sends, and how
%%% connections live and die. That calls over them work is in sockpool_remote_node_SUITE.
-module(sockpool_c_node_connect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([ticks_while_idle/1, ticks_while_leased/1, unasked_messages/1, killed_under_calls/1,
         many_connections/1]).
-export([wrong_cookie/1, cookie_is_not_logged/1, cookie_of_a_daemon_pool/1, unknown_node/1,
         no_epmd/1, port_without_epmd/1, other_node/1, not_a_node/1]).
-export([tls/1, tls_without_a_certificate/1, plain_to_tls/1]).
-export([hostile_frames/1, replies_to_nobody/1, cut_frame/1, nested_reply/1, silent_target/1,
         clients_die/1, slow_client/1, slow_client_dies/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1]).
-import(sockpool_node_kit, [checked_out/1, call/3, node_of/1, unavailable/1, why_unavailable/1,
                            start_apart/2, with_tls_node/2]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [ticks_while_idle, ticks_while_leased, unasked_messages, killed_under_calls, many_connections,
     wrong_cookie, cookie_is_not_logged, cookie_of_a_daemon_pool, unknown_node, no_epmd,
     port_without_epmd, other_node, not_a_node, tls, tls_without_a_certificate, plain_to_tls,
     hostile_frames, replies_to_nobody, cut_frame, nested_reply, silent_target, clients_die,
     slow_client, slow_client_dies].

init_per_suite(Config) ->
    Dir = filename:join(?config(priv_dir, Config), "c_node_tls"),
    ok = file:make_dir(Dir),
    ok = sockpool_tls_peers:certificates(Dir),
    case sockpool_c_daemon:is_built() of
        true -> sockpool_node_kit:init_suite([{tls_dir, Dir} | Config]);
        false -> {skip, "priv/sockpool_node is not built: a library is missing"}
    end.

end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).

%% A daemon of its own, so that each one's end is looked at.
init_per_testcase(Case, Config) ->
    #{node := Target} = ?config(peer, Config),
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    [{pool, {Case, Node}}, {daemon, Daemon}, {node, Target} | Config].

end_per_testcase(_Case, Config) ->
    0 = sockpool_c_daemon:stop(?config(daemon, Config)).

started(Config, Opts) -> started(Config, ?config(node, Config), Opts).

started(Config, Target, Opts) ->
    Pool = ?config(pool, Config),
    Defaults = #{transport => node, node => Target, size => 1, max_overflow => 0,
                 backoff => {1, 50}},
    ok = sockpool:start_pool(Pool, maps:merge(Defaults, Opts)),
    Pool.

%%% Lives.

%% As in sockpool_node_connect_SUITE: the node takes for dead who does not answer four ticks.
ticks_while_idle(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 3}),
              _ = settled(Pool),
              wait_until(fun() -> heard(Control, 3, 8) end),
              ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
              ?assertEqual({ok, Node}, node_of(Pool))
      end).

ticks_while_leased(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 2}),
              _ = settled(Pool),
              [Calling, Silent] = [checked_out(Pool), checked_out(Pool)],
              Self = self(),
              Job = start(fun() -> call(Calling, answer_when_told, [ticked_call, Self]) end),
              wait_until(fun() -> heard(Control, 2, 8) end),
              ok = sockpool:send_to(Calling, ticked_call, {answer, still_here}),
              ?assertEqual({ok, still_here}, await(Job)),
              [ok = sockpool:checkin(Conn) || Conn <- [Calling, Silent]],
              ?assertMatch(#{closed := 0, created := 2}, settled(Pool))
      end).

with_ticking_node(Fun) ->
    #{control := Control, node := Node} =
        start_apart(peer:random_name(ticking), ["-kernel", "net_ticktime", "4"]),
    try Fun(Control, Node) after peer:stop(Control) end.

%% So many connections, each with so many packets to the node. The client calls over the daemon only.
heard(Control, Count, Packets) ->
    {ok, Infos} = peer:call(Control, net_kernel, nodes_info, []),
    In = lists:reverse(lists:sort([proplists:get_value(in, Info) || {Name, Info} <- Infos,
                                                                    is_of_pool(Name)])),
    (length(In) =:= Count andalso lists:min(In) >= Packets) orelse In.

%% Names that a node makes have capitals and digits only.
is_of_pool(Name) ->
    [Alive, _] = string:split(atom_to_list(Name), "@"),
    Alive =:= string:uppercase(Alive).

unasked_messages(Config) ->
    Pool = started(Config, #{size => 2}),
    _ = settled(Pool),
    #{control := Control} = ?config(peer, Config),
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    Conns = [checked_out(Pool), checked_out(Pool)],
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    [?assertMatch({ok, _}, node_of(Conn)) || Conn <- Conns],
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = peer:call(Control, sockpool_node_kit, tell_everybody, []),
    ?assertMatch({ok, _}, node_of(Pool)),
    ?assertMatch(#{closed := 0, created := 2}, settled(Pool)).

killed_under_calls(Config) ->
    Name = peer:random_name(mortal),
    #{node := Node, os_pid := OsPid} = start_apart(Name, []),
    Pool = started(Config, Node, #{size => 2}),
    Conns = [checked_out(Pool), checked_out(Pool)],
    Self = self(),
    Jobs = [start(fun() -> call(Conn, answer_when_told, [Call, Self]) end)
            || {Conn, Calls} <- lists:zip(Conns, [[mortal_1, mortal_2], [mortal_3]]), Call <- Calls],
    [receive {waiting, Call} -> ok after 30000 -> error(late) end || Call <- [mortal_1, mortal_2, mortal_3]],
    [] = os:cmd("kill -9 " ++ OsPid),
    [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= econnreset, await(Job)) || Job <- Jobs],
    [?assertEqual({error, closed}, node_of(Conn)) || Conn <- Conns],
    ?assertMatch(Why when Why =:= econnrefused; Why =:= {no_such_node, Node},
                 why_unavailable(fun() -> sockpool:call(Pool, erlang, node, [], 300) end)),
    ?assert(stat(Pool, connect_failures) > 0),
    #{control := Control} = start_apart(Name, []),
    ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 2, abandoned := 0}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    peer:stop(Control).

many_connections(Config) ->
    Pool = started(Config, #{size => 50}),
    Conns = [checked_out(Pool) || _ <- lists:seq(1, 50)],
    Jobs = [start(fun() -> sockpool:call(Conn, erlang, '*', [N, 2], 30000) end)
            || {N, Conn} <- lists:zip(lists:seq(1, 50), Conns)],
    ?assertEqual([{ok, 2 * N} || N <- lists:seq(1, 50)], [await(Job) || Job <- Jobs]),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ?assertMatch(#{closed := 0, created := 50}, settled(Pool)).

%%% Connecting.

wrong_cookie(Config) ->
    Pool = started(Config, #{cookie => not_the_cookie}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    {ok, #{connect_failures := Failures, idle := 0, created := 0}} = sockpool:stats(Pool),
    ?assert(Failures > 0),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Cookie}),
         ?assertMatch({ok, _}, node_of(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || Cookie <- [erlang:get_cookie(), atom_to_binary(erlang:get_cookie())]].

cookie_is_not_logged(Config) ->
    Opts = #{transport => node, node => ?config(node, Config)},
    [?assertEqual({error, {bad_option, cookie, not_a_cookie}},
                  sockpool:start_pool(?config(pool, Config), Opts#{cookie => Wrong}))
     || Wrong <- ["s3cret", fun erlang:get_cookie/0, <<"s3cret", 0>>, <<>>, ['s3cret']]],
    ?assertEqual({error, {bad_option, cookie, not_a_cookie}},
                 sockpool:start_pool(?config(pool, Config),
                                     #{host => "h", port => 1, cookie => s3cret})),
    _ = started(Config, #{cookie => s3cret}),
    Line = sockpool_c_daemon:await_line(?config(daemon, Config), "event=cannot_connect"),
    ?assertEqual(nomatch, string:find(Line, "s3cret")),
    ?assertNotEqual(nomatch, string:find(Line, "node wrong_cookie")).

%% The program that starts the daemon may give a fun: it is called there.
cookie_of_a_daemon_pool(Config) ->
    Name = list_to_atom(peer:random_name(cookie_pools)),
    Opts = #{transport => node, node => ?config(node, Config), size => 1},
    Start = fun(Cookie) ->
                    sockpool_node:start_link(#{name => Name, program => sockpool_c_daemon:program(),
                                               pools => #{p => Opts#{cookie => Cookie}}})
            end,
    process_flag(trap_exit, true),
    [begin
         {ok, Pid} = Start(Cookie),
         [_, Host] = string:split(atom_to_list(node()), "@"),
         Node = list_to_atom(atom_to_list(Name) ++ "@" ++ Host),
         ?assertEqual({ok, ?config(node, Config)}, node_of({p, Node})),
         ?assertEqual(nomatch, string:find(io_lib:format("~p", [sys:get_status(Pid)]),
                                           atom_to_list(erlang:get_cookie()))),
         unlink(Pid),
         ok = gen_server:stop(Pid)
     end || Cookie <- [erlang:get_cookie(), fun erlang:get_cookie/0]],
    ?assertEqual({error, {pool, p, {cookie, error}}}, Start(fun() -> error(s3cret) end)),
    ?assertEqual({error, {bad_option, {pools, p, cookie}, not_a_cookie}}, Start(fun() -> "s3cret" end)).

host() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Host.

unknown_node(Config) ->
    Unknown = list_to_atom("no_such_node@" ++ host()),
    ?assertEqual({no_such_node, Unknown}, unavailable(started(Config, Unknown, #{}))).

%% Nobody at that address has an epmd.
no_epmd(Config) ->
    ?assertEqual({no_such_node, 'b@127.0.0.99'}, unavailable(started(Config, 'b@127.0.0.99', #{}))),
    ok = sockpool:stop_pool(?config(pool, Config)),
    ?assertEqual(nxdomain, unavailable(started(Config, 'b@no-such-host.invalid', #{}))).

listens_at(Config) ->
    [Name, Host] = string:split(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    Port.

port_without_epmd(Config) ->
    Pool = started(Config, #{port => listens_at(Config)}),
    ?assertEqual({ok, ?config(node, Config)}, node_of(Pool)).

other_node(Config) ->
    Other = list_to_atom("other@" ++ host()),
    ?assertEqual({node, other_node}, unavailable(started(Config, Other, #{port => listens_at(Config)}))).

%% One that sends back what it gets, one that says nothing.
not_a_node(Config) ->
    Server = sockpool_test_server:start(),
    Node = 'b@127.0.0.1',
    Pool = started(Config, Node, #{port => sockpool_test_server:port(Server)}),
    ?assertEqual({node, protocol_error}, unavailable(Pool)),
    ok = sockpool:stop_pool(Pool),
    {ok, Listen} = gen_tcp:listen(0, [{active, false}, {backlog, 100}]),
    {ok, Port} = inet:port(Listen),
    _ = started(Config, Node, #{port => Port, connect_timeout => 100}),
    ?assertEqual(timeout, unavailable(Pool)),
    ok = gen_tcp:close(Listen).

%%% TLS distribution.

tls(Config) ->
    with_tls_node(Config, fun(Node, _Trust, Identity) ->
        Pool = started(Config, Node, #{tls => Identity, size => 2}),
        ?assertEqual({ok, Node}, node_of(Pool)),
        Conn = checked_out(Pool),
        ?assertMatch({ok, #{transport := node, node := Node, protocol := _, cipher := _}},
                     sockpool:info(Conn)),
        Bytes = binary:copy(<<"0123456789abcdef">>, 256 * 1024),
        Copies = [start(fun() -> {ok, Bytes} = sockpool:call(Conn, binary, copy, [Bytes], infinity), ok end)
                  || _ <- lists:seq(1, 4)],
        [ok = await(Job) || Job <- Copies],
        ok = sockpool:checkin(Conn),
        ?assertMatch(#{closed := 0}, settled(Pool)),
        ok = sockpool:stop_pool(Pool),
        _ = started(Config, Node, #{tls => Identity, cookie => not_the_cookie}),
        ?assertEqual({node, wrong_cookie}, unavailable(Pool))
    end).

tls_without_a_certificate(Config) ->
    with_tls_node(Config, fun(Node, Trust, _Identity) ->
        ?assertMatch({tls, {alert, _}}, unavailable(started(Config, Node, #{tls => Trust})))
    end).

plain_to_tls(Config) ->
    with_tls_node(Config, fun(Node, _Trust, Identity) ->
        Pool = started(Config, Node, #{}),
        ?assertMatch({node, Why} when Why =:= protocol_error; Why =:= closed, unavailable(Pool)),
        ok = sockpool:stop_pool(Pool),
        _ = started(Config, #{tls => Identity, connect_timeout => 100}),
        ?assertEqual(timeout, unavailable(Pool))
    end).

%%% What no node says.

with_fake(Config, Opts, Fun) ->
    Fake = sockpool_fake_node:start(),
    Pool = ?config(pool, Config),
    Defaults = #{size => 1, max_overflow => 0, backoff => {1, 20}, connect_timeout => 60000},
    ok = sockpool:start_pool(Pool, maps:merge(maps:merge(sockpool_fake_node:opts(Fake), Defaults), Opts)),
    try Fun(Fake, Pool) after sockpool_fake_node:stop(Fake) end.

%% While the connection is leased and a call is under way. Each is passed over.
hostile_frames(Config) ->
    with_fake(Config, #{}, fun(Fake, Pool) ->
        Conn = checked_out(Pool),
        Self = self(),
        Job = start(fun() -> call(Conn, answer_when_told, [hostile_call, Self]) end),
        receive {waiting, hostile_call} -> ok after 30000 -> error(late) end,
        Good = <<112, (term_to_binary({21, self(), self(), make_ref(), x}))/binary>>,
        Frames = [<<>>, <<112>>, <<113, 0:800>>, <<112, 131>>, <<112, 131, 104>>, <<112, 131, 104, 5>>,
                  <<112, 131, 104, 255, 97, 21>>, <<112, 131, 105, 16#ffffffff:32, 97, 21>>,
                  <<112, 131, 104, 5, 97, 21, 88, 119, 255>>, <<112, 131, 108, 16#ffffffff:32>>,
                  <<131, 68, 0>>, crypto:strong_rand_bytes(1000),
                  <<112, (term_to_binary({2, '', self()}))/binary>>,
                  <<112, (term_to_binary({2, '', self()}))/binary, 131, 109, 16#ffffffff:32>>,
                  <<112, (term_to_binary({2, '', self()}))/binary,
                    (term_to_binary({io_request, self(), make_ref(), {put_chars, unicode, "x"}}))/binary>>,
                  <<112, (term_to_binary({2, '', self()}))/binary,
                    (term_to_binary({io_request, x, y, z}))/binary>>,
                  <<112, (term_to_binary({31, make_ref(), self(), 0, notsup}))/binary>>,
                  <<112, (term_to_binary({1, self(), self()}))/binary>>, Good]
            ++ [binary:part(Good, 0, N) || N <- lists:seq(1, byte_size(Good) - 1)]
            ++ [<<Before/binary, (bnot Byte), After/binary>>
                || At <- lists:seq(0, byte_size(Good) - 1),
                   <<Before:At/binary, Byte, After/binary>> <- [Good]],
        [1 = sockpool_fake_node:say(Fake, Frame) || Frame <- Frames],
        ?assertEqual({ok, 3}, sockpool:call(Conn, erlang, '+', [1, 2], 30000)),
        hostile_call ! {answer, done},
        ?assertEqual({ok, done}, await(Job)),
        ok = sockpool:checkin(Conn),
        ?assertMatch(#{closed := 0}, settled(Pool))
    end).

%% The reference is that of the call, the rest is not what a node says.
replies_to_nobody(Config) ->
    with_fake(Config, #{}, fun(Fake, Pool) ->
        Conn = checked_out(Pool),
        {ok, #{name := Name, creation := Creation}} = sockpool:info(Conn),
        End = fun(Call, Reason) ->
                      Pid = <<88, 119, (byte_size(Name)), Name/binary, 1:32, 0:32, Creation:32>>,
                      Ref = <<90, 3:16, 119, (byte_size(Name)), Name/binary, Creation:32, 0:32, Call:64>>,
                      1 = sockpool_fake_node:say(Fake, [<<112, 131, 104, 5, 97, 21>>, Pid, Pid, Ref, Reason])
              end,
        Bare = fun(Term) -> <<131, Rest/binary>> = term_to_binary(Term), Rest end,
        Self = self(),
        Begin = fun(As) ->
                        Job = start(fun() -> call(Conn, answer_when_told, [As, Self]) end),
                        receive {waiting, As} -> Job after 30000 -> error(late) end
                end,
        End(77, Bare({77, return, x})),
        First = Begin(nobody_1),
        End(1, Bare({2, return, x})),
        ?assertEqual({error, {exception, exit, {signal, {2, return, x}}, []}}, await(First)),
        Second = Begin(nobody_2),
        End(2, <<109, 1000:32, "short">>),
        ?assertEqual({error, bad_reply}, await(Second)),
        Third = Begin(nobody_3),
        End(3, Bare({3, error, badarg, not_a_stack})),
        ?assertEqual({error, {exception, error, badarg, not_a_stack}}, await(Third)),
        [As ! {answer, too_late} || As <- [nobody_1, nobody_2, nobody_3]],
        ?assertEqual({ok, 3}, sockpool:call(Conn, erlang, '+', [1, 2], 30000)),
        ok = sockpool:checkin(Conn)
    end).

%% What is longer than recv_limit ends the connection, however much of it comes.
cut_frame(Config) ->
    with_fake(Config, #{recv_limit => 100000}, fun(Fake, Pool) ->
        Conn = checked_out(Pool),
        Self = self(),
        Job = start(fun() -> call(Conn, answer_when_told, [cut_call, Self]) end),
        receive {waiting, cut_call} -> ok after 30000 -> error(late) end,
        1 = sockpool_fake_node:say(Fake, binary:copy(<<0>>, 100001)),
        ?assertEqual({error, emsgsize}, await(Job)),
        ?assertEqual({error, closed}, node_of(Conn)),
        cut_call ! {answer, too_late},
        ?assertMatch(#{closed := 1}, settled(Pool))
    end).

%% Deeper than the daemon looks at.
nested_reply(Config) ->
    Pool = started(Config, #{}),
    ?assertMatch({ok, [_]}, call(Pool, nest, [200])),
    ?assertEqual({error, bad_reply}, call(Pool, nest, [1000])),
    ?assertMatch({ok, _}, node_of(Pool)),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% It reads nothing: what cannot be sent ends with send_timeout, which both calls must reach the daemon
%% within.
silent_target(Config) ->
    with_fake(Config, #{send_timeout => 2000}, fun(Fake, Pool) ->
        Conn = checked_out(Pool),
        ok = sockpool_fake_node:stop_reading(Fake),
        Bytes = binary:copy(<<0>>, 8 * 1024 * 1024),
        Jobs = [start(fun() -> sockpool:call(Conn, erlang, byte_size, [Bytes], infinity) end),
                start(fun() -> sockpool:send_to(Conn, nobody, Bytes) end)],
        ?assertEqual([{error, timeout}, {error, timeout}], [await(Job) || Job <- Jobs]),
        ?assertEqual({error, closed}, node_of(Conn)),
        ok = wait_until(fun() -> stat(Pool, closed) =:= 1 end)
    end).

%% Owners and others, in the middle of calls, over and over; everything comes back.
clients_die(Config) ->
    Target = ?config(node, Config),
    Pool = started(Config, #{size => 3, max_overflow => 0}),
    Rounds = 30,
    [begin
         Clients = [client(Target) || _ <- lists:seq(1, 6)],
         [Owner | Others] = Clients,
         Conn = run(Owner, fun() -> checked_out(Pool) end),
         [begin_run(Client, fun() -> call(Conn, linger, []) end) || Client <- lists:sublist(Others, 2)],
         [begin_run(Client, fun() -> call(Pool, linger, []) end) || Client <- lists:nthtail(2, Others)],
         _ = begin_run(Owner, fun() -> call(Conn, linger, []) end),
         [exit(Client, kill) || Client <- lists:nthtail(Round rem 6, Clients) ++ Clients]
     end || Round <- lists:seq(1, Rounds)],
    ok = wait_until(fun() -> stat(Pool, leased) + stat(Pool, waiting) =:= 0 end),
    ?assertMatch({ok, _}, node_of(Pool)).

%% It reads nothing for a while. More than the daemon would keep for it waits at the target meanwhile, and
%% others are served by other connections.
slow_client(Config) ->
    with_slow_client(Config, fun(#{os_pid := OsPid} = Peer, Pool, _Conn, Results) ->
        ?assertMatch({ok, _}, node_of(Pool)),
        [] = os:cmd("kill -CONT " ++ OsPid),
        [?assertEqual({ok, 8 * 1024 * 1024}, sockpool_cluster:result(Result)) || Result <- Results],
        sockpool_cluster:stop_peer(Peer),
        ?assertEqual(0, stat(Pool, closed))
    end).

%% Those who share the connection with it go on then.
slow_client_dies(Config) ->
    with_slow_client(Config, fun(Peer, Pool, Conn, _Results) ->
        ok = sockpool_cluster:kill_vm(Peer),
        ?assertMatch({ok, _}, node_of(Conn)),
        ?assertEqual(0, stat(Pool, closed))
    end).

with_slow_client(Config, Fun) ->
    Target = ?config(node, Config),
    #{node := Slow, os_pid := OsPid} = Peer = sockpool_cluster:start_plain_peer(),
    Pool = started(Config, #{size => 2}),
    Conn = checked_out(Pool),
    Names = [list_to_atom("slow_call_" ++ integer_to_list(N)) || N <- lists:seq(1, 20)],
    Self = self(),
    Results = [begin_run(client(Slow), fun() -> late_answer(Conn, {Name, Self}) end) || Name <- Names],
    [receive {waiting, Name} -> ok after 30000 -> error(late) end || Name <- Names],
    [] = os:cmd("kill -STOP " ++ OsPid),
    Bytes = binary:copy(<<0>>, 8 * 1024 * 1024),
    [{Name, Target} ! {answer, Bytes} || Name <- Names],
    Fun(Peer, Pool, Conn, Results),
    sockpool:checkin(Conn).

late_answer(Conn, {Name, Tester}) ->
    case call(Conn, answer_when_told, [Name, Tester]) of
        {ok, Bytes} -> {ok, byte_size(Bytes)};
        Error -> Error
    end.
