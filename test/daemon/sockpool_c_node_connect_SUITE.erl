%%% How pools of the C node connect with transport => node, what it does with what a node sends, and how
%%% connections live and die. That calls over them work is in sockpool_remote_node_SUITE.
-module(sockpool_c_node_connect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([ticks_while_idle/1, ticks_while_leased/1, unasked_messages/1, killed_under_calls/1,
         many_connections/1]).
-export([wrong_cookie/1, cookie_is_not_logged/1, cookie_of_a_daemon_pool/1, unknown_node/1,
         no_epmd/1, port_without_epmd/1, other_node/1, not_a_node/1]).
-export([tls/1, tls_without_a_certificate/1, plain_to_tls/1]).
-export([hostile_frames/1, replies_to_nobody/1, cut_frame/1, nested_reply/1, silent_target/1,
         clients_die/1, slow_client/1, slow_client_dies/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, unavailable/1]).
-import(sockpool_node_kit, [started/2, started/3, checked_out/1, call/3, waiting_call/2, is_waiting/1,
                            node_of/1]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [{group, ticks}, unasked_messages, killed_under_calls, many_connections,
     wrong_cookie, cookie_is_not_logged, cookie_of_a_daemon_pool, unknown_node, no_epmd,
     port_without_epmd, other_node, not_a_node, tls, tls_without_a_certificate, plain_to_tls,
     hostile_frames, replies_to_nobody, cut_frame, nested_reply, silent_target, clients_die,
     slow_client, slow_client_dies].

%% These only wait.
groups() -> [{ticks, [parallel], [ticks_while_idle, ticks_while_leased]}].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(
      fun() -> sockpool_node_kit:init_suite(sockpool_tls_kit:with_certificates(Config)) end).

end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).

%% A daemon of its own, so that each one's end is looked at.
init_per_testcase(Case, Config) ->
    #{node := Target} = ?config(peer, Config),
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    [{pool, {Case, Node}}, {daemon, Daemon}, {node, Target} | Config].

end_per_testcase(_Case, Config) ->
    0 = sockpool_c_daemon:stop(?config(daemon, Config)).

%%% Lives.

ticks_while_idle(Config) -> sockpool_node_connect_cases:ticks_while_idle(Config).

ticks_while_leased(Config) -> sockpool_node_connect_cases:ticks_while_leased(Config).

unasked_messages(Config) -> sockpool_node_connect_cases:unasked_messages(Config).

killed_under_calls(Config) -> sockpool_node_connect_cases:killed_under_calls(Config, {error, closed}).

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
    sockpool_node_connect_cases:wrong_cookie(
      Config, [erlang:get_cookie(), atom_to_binary(erlang:get_cookie())]).

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
     end || Cookie <- [erlang:get_cookie(), fun erlang:get_cookie/0, {erlang, get_cookie, []}]],
    ?assertEqual({error, {pool, p, {cookie, error}}}, Start(fun() -> error(s3cret) end)),
    ?assertEqual({error, {bad_option, {pools, p, cookie}, not_a_cookie}}, Start(fun() -> "s3cret" end)).

unknown_node(Config) -> sockpool_node_connect_cases:unknown_node(Config).

%% Nobody at that address has an epmd.
no_epmd(Config) ->
    ?assertEqual({no_such_node, 'b@127.0.0.99'}, unavailable(started(Config, 'b@127.0.0.99', #{}))),
    ok = sockpool:stop_pool(?config(pool, Config)),
    ?assertEqual(nxdomain, unavailable(started(Config, 'b@no-such-host.invalid', #{}))).

port_without_epmd(Config) -> sockpool_node_connect_cases:port_without_epmd(Config).

other_node(Config) -> sockpool_node_connect_cases:other_node(Config).

not_a_node(Config) -> sockpool_node_connect_cases:not_a_node(Config).

%%% TLS distribution.

tls(Config) -> sockpool_node_connect_cases:tls(Config, fun(_Pool) -> ok end).

tls_without_a_certificate(Config) -> sockpool_node_connect_cases:tls_without_a_certificate(Config).

plain_to_tls(Config) -> sockpool_node_connect_cases:plain_to_tls(Config).

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
        Job = waiting_call(Conn, hostile_call),
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
        End(77, Bare({77, return, x})),
        First = waiting_call(Conn, nobody_1),
        End(1, Bare({2, return, x})),
        ?assertEqual({error, {exception, exit, {signal, {2, return, x}}, []}}, await(First)),
        Second = waiting_call(Conn, nobody_2),
        End(2, <<109, 1000:32, "short">>),
        ?assertEqual({error, bad_reply}, await(Second)),
        Third = waiting_call(Conn, nobody_3),
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
        Job = waiting_call(Conn, cut_call),
        1 = sockpool_fake_node:say(Fake, binary:copy(<<0>>, 100001)),
        ?assertEqual({error, emsgsize}, await(Job)),
        ?assertEqual({error, closed}, node_of(Conn)),
        cut_call ! {answer, too_late},
        ?assertMatch(#{closed := 1}, settled(Pool))
    end).

%% However deep.
nested_reply(Config) ->
    Pool = started(Config, #{}),
    Nested = fun(Depth) -> lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, Depth)) end,
    [?assert({ok, Nested(Depth)} =:= call(Pool, nest, [Depth])) || Depth <- [200, 1000, 100000]],
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
        ok = sockpool_test_util:continue_program(OsPid),
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
    [ok = is_waiting(Name) || Name <- Names],
    ok = sockpool_test_util:stop_program(OsPid),
    Bytes = binary:copy(<<0>>, 8 * 1024 * 1024),
    [{Name, Target} ! {answer, Bytes} || Name <- Names],
    Fun(Peer, Pool, Conn, Results),
    sockpool:checkin(Conn).

late_answer(Conn, {Name, Tester}) ->
    case call(Conn, answer_when_told, [Name, Tester]) of
        {ok, Bytes} -> {ok, byte_size(Bytes)};
        Error -> Error
    end.
