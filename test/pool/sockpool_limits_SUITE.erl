%%% The limits in the VM (docs/limits.md): who exceeds one is told, and only he. In every case there is a calm pool
%%% beside, which has a lease all the while, and where it makes sense a calm user of the same pool. They get their own
%%% bytes and lose no connection: the counters are exact.
-module(sockpool_limits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([connections/1, waiting/1, lengths_to_ask_for/1, messages_of_the_server/1, messages_to_send/1, calls_at_once/1,
         holding_too_long/1, attempts_at_once/1, handshakes_at_once/1, tls_messages_without_data/1, files_of_tls/1,
         reasons_of_init/1, bounds_of_options/1, bounds_of_setopts/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, stat/2, start/1, await/1]).

-define(WAIT_MS, 60000).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [connections, waiting, lengths_to_ask_for, messages_of_the_server, messages_to_send, calls_at_once, holding_too_long,
     attempts_at_once, handshakes_at_once, tls_messages_without_data, files_of_tls, reasons_of_init, bounds_of_options,
     bounds_of_setopts].

init_per_suite(Config) -> sockpool_node_kit:init_suite(sockpool_tls_kit:start(Config)).

end_per_suite(Config) ->
    sockpool_node_kit:end_suite(Config),
    sockpool_tls_kit:stop(Config).

%% The calm pool: one connection leased, with a reply on its way, one idle.
init_per_testcase(Case, Config) ->
    Server = sockpool_test_server:start(),
    Calm = list_to_atom("limits_calm_" ++ atom_to_list(Case)),
    Config1 = [{pool, list_to_atom("limits_" ++ atom_to_list(Case))}, {server, Server}, {calm, Calm},
               {node, maps:get(node, ?config(peer, Config))} | Config],
    ok = sockpool:start_pool(Calm, (target(Config1))#{size => 2, max_overflow => 0}),
    _ = settled(Calm),
    [{lease, asked(Calm, <<"calm">>)} | Config1].

end_per_testcase(_Case, _Config) -> sockpool_node_kit:end_case().

target(Config) -> sockpool_test_server:target(?config(server, Config)).

%% A pool of two connections, unless the options say otherwise.
started(Config, Opts) ->
    Pool = ?config(pool, Config),
    Defaults = (target(Config))#{size => 2, max_overflow => 0, backoff => {1, 50}, connect_timeout => ?WAIT_MS},
    ok = sockpool:start_pool(Pool, maps:merge(Defaults, Opts)),
    _ = settled(Pool),
    Pool.

%% A lease whose reply is still to be read.
asked(Pool, Data) ->
    {ok, Conn} = sockpool:checkout(Pool, ?WAIT_MS),
    ok = sockpool:send(Conn, Data),
    Conn.

answered(Conn, Data) -> ?assertEqual({ok, Data}, sockpool:recv(Conn, byte_size(Data), ?WAIT_MS)).

unharmed(Config) ->
    Calm = ?config(calm, Config),
    answered(?config(lease, Config), <<"calm">>),
    ok = sockpool:checkin(?config(lease, Config)),
    ?assertEqual({ok, <<"mine">>}, sockpool:request(Calm, "mine", 4, ?WAIT_MS)),
    ?assertMatch(#{checkouts := 2, checkins := 2}, no_losses(Calm, 2)),
    sockpool_test_util:assert_no_messages().

%% The pool has the connections that it began with.
no_losses(Pool, Connections) ->
    Stats = settled(Pool),
    ?assertMatch(#{total := Connections, created := Connections, closed := 0, abandoned := 0, timeouts := 0,
                   connect_attempts := Connections, connect_failures := 0, last_error := undefined}, Stats),
    Stats.

%%% A pool.

%% More want a connection than there are.
connections(Config) ->
    Pool = started(Config, #{}),
    Leases = [asked(Pool, Data) || Data <- [<<"one">>, <<"two">>]],
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool, 1)),
    ?assertEqual({error, timeout}, sockpool:request(Pool, "three", 5, 1)),
    [answered(Conn, Data) || {Conn, Data} <- lists:zip(Leases, [<<"one">>, <<"two">>])],
    [ok = sockpool:checkin(Conn) || Conn <- Leases],
    ?assertMatch(#{created := 2, closed := 0, timeouts := 2, checkouts := 2, checkins := 2}, settled(Pool)),
    unharmed(Config).

%% Those who wait already, and the one who has the connection, notice nothing.
waiting(Config) ->
    Pool = started(Config, #{size => 1, max_waiting => 2}),
    Conn = asked(Pool, <<"held">>),
    Jobs = [begin
                Job = start(fun() -> sockpool:request(Pool, Data, 1, infinity) end),
                wait_until(fun() -> stat(Pool, waiting) =:= N end),
                Job
            end || {N, Data} <- [{1, "a"}, {2, "b"}]],
    [begin
         ?assertEqual({error, full}, sockpool:checkout(Pool, infinity)),
         ?assertEqual({error, full}, sockpool:request(Pool, "x", 1, infinity)),
         ?assertEqual({error, full}, sockpool:execute(Pool, fun(_) -> ok end, infinity)),
         ?assertError({checkout, full}, sockpool:transaction(Pool, fun(_) -> ok end, infinity))
     end || _ <- lists:seq(1, 100)],
    ?assertEqual(2, stat(Pool, waiting)),
    answered(Conn, <<"held">>),
    ok = sockpool:checkin(Conn),
    ?assertEqual([{ok, <<"a">>}, {ok, <<"b">>}], [await(Job) || Job <- Jobs]),
    ?assertMatch(#{checkouts := 3, checkins := 3}, no_losses(Pool, 1)),
    unharmed(Config).

%% The first is shut out at once, though he may wait for ever; the lease of the other one has its time.
holding_too_long(Config) ->
    Pool = started(Config, #{max_hold => 2000}),
    Begun = erlang:monotonic_time(millisecond),
    Held = asked(Pool, <<"held">>),
    N = requests_until(Pool, fun() -> stat(Pool, abandoned) =:= 1 end, 0),
    HeldMs = erlang:monotonic_time(millisecond) - Begun,
    ?assert(HeldMs >= 2000 andalso HeldMs < 10000, HeldMs),
    ?assertEqual({error, closed}, sockpool:recv(Held, 4, infinity)),
    ?assertEqual({error, closed}, sockpool:checkin(Held)),
    ?assertEqual(#{abandoned => 1, closed => 1, created => 3, checkouts => N + 1, checkins => N, timeouts => 0},
                 maps:with([abandoned, closed, created, checkouts, checkins, timeouts], settled(Pool))),
    unharmed(Config).

requests_until(Pool, Done, N) ->
    Data = integer_to_binary(N),
    ?assertEqual({ok, Data}, sockpool:request(Pool, Data, byte_size(Data), ?WAIT_MS)),
    case Done() of
        true -> N + 1;
        false -> requests_until(Pool, Done, N + 1)
    end.

%%% Bytes.

%% Refused before a connection is touched: the exceeder's own has its reply still, and where all are leased it is not
%% for lack of one.
lengths_to_ask_for(Config) ->
    Pool = started(Config, #{recv_limit => 100}),
    Leases = [asked(Pool, Data) || Data <- [<<"calm">>, <<"greedy">>]],
    Greedy = lists:last(Leases),
    [begin
         ?assertEqual({error, emsgsize}, sockpool:recv(Greedy, Length, 0)),
         ?assertEqual({error, emsgsize}, sockpool:request(Pool, "x", Length, 0))
     end || Length <- [101, 1 bsl 31, 1 bsl 63]],
    [answered(Conn, Data) || {Conn, Data} <- lists:zip(Leases, [<<"calm">>, <<"greedy">>])],
    [ok = sockpool:checkin(Conn) || Conn <- Leases],
    ?assertMatch(#{checkouts := 2, checkins := 2}, no_losses(Pool, 2)),
    unharmed(Config).

%% Only the connection on which it came is closed, once it is given back.
messages_of_the_server(Config) ->
    Pool = started(Config, #{packet => line, recv_limit => 100}),
    Line = <<"calm line\n">>,
    Calm = asked(Pool, Line),
    Greedy = asked(Pool, [binary:copy(<<"x">>, 100), "\n"]),
    ?assertEqual({error, emsgsize}, sockpool:recv(Greedy, 0, ?WAIT_MS)),
    ok = sockpool:checkin(Greedy),
    ?assertEqual({ok, Line}, sockpool:recv(Calm, 0, ?WAIT_MS)),
    ?assertEqual({error, emsgsize}, sockpool:request(Pool, [binary:copy(<<"y">>, 200), "\n"], packet, ?WAIT_MS)),
    ok = sockpool:send(Calm, Line),
    ?assertEqual({ok, Line}, sockpool:recv(Calm, 0, ?WAIT_MS)),
    ok = sockpool:checkin(Calm),
    ?assertEqual({ok, Line}, sockpool:request(Pool, Line, packet, ?WAIT_MS)),
    ?assertMatch(#{created := 4, closed := 2, checkouts := 4, checkins := 4, abandoned := 0, connect_failures := 0},
                 settled(Pool)),
    unharmed(Config).

%% Nothing of it is sent.
messages_to_send(Config) ->
    [begin
         Pool = started([{pool, list_to_atom(lists:concat(["limits_width_", Packet]))} | Config], #{packet => Packet}),
         [Calm, Greedy] = Leases = [asked(Pool, Data) || Data <- [<<"calm">>, <<"greedy">>]],
         Long = binary:copy(<<"x">>, 1 bsl (8 * Packet)),
         ?assertEqual({error, emsgsize}, sockpool:send(Greedy, Long)),
         ?assertEqual({error, emsgsize}, sockpool:request(Pool, [Long, "more"], packet, ?WAIT_MS)),
         ?assertEqual({ok, <<"calm">>}, sockpool:recv(Calm, 0, ?WAIT_MS)),
         ok = sockpool:send(Greedy, "again"),
         ?assertEqual([{ok, <<"greedy">>}, {ok, <<"again">>}], [sockpool:recv(Greedy, 0, ?WAIT_MS) || _ <- [1, 2]]),
         [ok = sockpool:checkin(Conn) || Conn <- Leases],
         ?assertMatch(#{checkouts := 2, checkins := 2}, no_losses(Pool, 2))
     end || Packet <- [1, 2]],
    unharmed(Config).

%%% Calls.

%% Over one connection; the other one of the pool, and the calls that were there before, go on.
calls_at_once(Config) ->
    Node = ?config(node, Config),
    Pool = sockpool_node_kit:started(Config, #{size => 2, max_inflight => 2}),
    [Busy, Calm] = [sockpool_node_kit:checked_out(Pool) || _ <- [1, 2]],
    Jobs = [sockpool_node_kit:waiting_call(Busy, Name) || Name <- [limits_1, limits_2]],
    Other = sockpool_node_kit:waiting_call(Calm, limits_3),
    %% Told without the process of the connection, which has enough to do.
    ok = sys:suspend(element(2, Busy)),
    ?assertEqual({error, busy}, sockpool:call(Busy, erlang, node, [], 0)),
    ok = sys:resume(element(2, Busy)),
    [begin
         ?assertEqual({error, busy}, sockpool:call(Busy, erlang, node, [], ?WAIT_MS)),
         ?assertEqual({ok, Node}, sockpool:call(Calm, erlang, node, [], ?WAIT_MS))
     end || _ <- lists:seq(1, 50)],
    [ok = sockpool_node_kit:tell(Node, Name, Name) || Name <- [limits_1, limits_2, limits_3]],
    ?assertEqual([{ok, limits_1}, {ok, limits_2}, {ok, limits_3}], [await(Job) || Job <- Jobs ++ [Other]]),
    ?assertEqual({ok, Node}, sockpool:call(Busy, erlang, node, [], ?WAIT_MS)),
    one_too_many(Busy, Node),
    [ok = sockpool:checkin(Conn) || Conn <- [Busy, Calm]],
    ?assertMatch(#{checkouts := 2, checkins := 2}, no_losses(Pool, 2)),
    unharmed(Config).

%% Who called when there was room, at the same time as others: that process tells whose call came last.
one_too_many(Busy, Node) ->
    Reader = element(2, Busy),
    ok = sys:suspend(Reader),
    Jobs = [begin
                Job = start(fun() -> sockpool:call(Busy, sockpool_node_kit, answer_when_told, [Name, Self], ?WAIT_MS) end),
                wait_until(fun() -> process_info(Reader, message_queue_len) =:= {message_queue_len, N} end),
                Job
            end || Self <- [self()], {N, Name} <- [{1, limits_4}, {2, limits_5}, {3, limits_6}]],
    ok = sys:resume(Reader),
    ?assertEqual({error, busy}, await(lists:last(Jobs))),
    [begin
         ok = sockpool_node_kit:is_waiting(Name),
         ok = sockpool_node_kit:tell(Node, Name, Name)
     end || Name <- [limits_4, limits_5]],
    ?assertEqual([{ok, limits_4}, {ok, limits_5}], [await(Job) || Job <- lists:droplast(Jobs)]).

%%% Connecting.

%% 64 of one pool; the attempts of another one do not come after them.
attempts_at_once(Config) ->
    Self = self(),
    Wait = fun(_Conn) -> Self ! {attempt, self()}, receive go -> ok end end,
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (target(Config))#{size => 200, max_overflow => 0, init => Wait,
                                                          connect_timeout => ?WAIT_MS}),
    First = [received(attempt) || _ <- lists:seq(1, 64)],
    another_connects(Config, target(Config)),
    ?assertMatch(#{connect_attempts := 64, created := 0, connect_failures := 0}, stats(Pool)),
    [Pid ! go || Pid <- First],
    [received(attempt) ! go || _ <- lists:seq(65, 200)],
    _ = no_losses(Pool, 200),
    unharmed(Config).

%% 16 of one pool say hello to a server that does not answer.
handshakes_at_once(Config) ->
    Self = self(),
    Silent = sockpool_test_server:start({script, fun(Socket) ->
        {ok, _Hello} = gen_tcp:recv(Socket, 0),
        Self ! {hello, self()},
        mute(Socket)
    end}),
    Pool = ?config(pool, Config),
    Tls = #{transport => tls, tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}},
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Silent),
                                                   Tls#{size => 40, max_overflow => 0, connect_timeout => ?WAIT_MS})),
    _ = [received(hello) || _ <- lists:seq(1, 16)],
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server")),
    another_connects(Config, Tls#{host => "localhost", port => sockpool_tls_peers:port(Server)}),
    ?assertMatch(#{created := 0, connect_failures := 0}, stats(Pool)),
    unharmed(Config).

%% A hello may come in several pieces.
mute(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, _} -> mute(Socket);
        {error, closed} -> ok
    end.

received(Tag) -> receive {Tag, Pid} -> Pid after ?WAIT_MS -> error({none, Tag}) end.

another_connects(Config, Target) ->
    Other = list_to_atom(atom_to_list(?config(pool, Config)) ++ "_other"),
    ok = sockpool:start_pool(Other, Target#{size => 3, max_overflow => 0, connect_timeout => ?WAIT_MS}),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Other, "x", 1, ?WAIT_MS)),
    _ = no_losses(Other, 3),
    ok = sockpool:stop_pool(Other).

%% Everybody who asks is told, the cut one.
reasons_of_init(Config) ->
    Pool = ?config(pool, Config),
    Long = binary:copy(<<"x">>, 1 bsl 20),
    ok = sockpool:start_pool(Pool, (target(Config))#{init => fun(_) -> {error, {Long, lists:seq(1, 100000)}} end}),
    {init, Reason} = sockpool_test_util:unavailable(Pool),
    ?assert(erlang:external_size(Reason) < 10000),
    ?assertMatch({_, '...'}, Reason),
    ?assertEqual({init, Reason}, stat(Pool, last_error)),
    unharmed(Config).

%%% TLS.

%% A server that changes its keys a hundred times and says nothing.
tls_messages_without_data(Config) ->
    Server = sockpool_tls_peers:ssl_server([{versions, ['tlsv1.3']} | sockpool_tls_kit:identity(Config, "server")]),
    Pool = sockpool_tls_kit:pool(Config, Server, #{size => 2}),
    _ = settled(Pool),
    Calm = asked(Pool, <<"calm">>),
    {ok, Flooded} = sockpool:checkout(Pool, ?WAIT_MS),
    {ok, Address} = sockpool:sockname(Flooded),
    [_, _] = sockpool_tls_peers:tell(Server, fun(Socket) ->
        case ssl:peername(Socket) of
            {ok, Address} -> [ok = ssl:update_keys(Socket, write) || _ <- lists:seq(1, 100)];
            {ok, _} -> []
        end
    end),
    ?assertEqual({error, {tls, protocol_error}}, sockpool:recv(Flooded, 1, ?WAIT_MS)),
    answered(Calm, <<"calm">>),
    [ok = sockpool:checkin(Conn) || Conn <- [Flooded, Calm]],
    sockpool_tls_kit:echo(Pool),
    ?assertMatch(#{created := 3, closed := 1, checkouts := 3, checkins := 3, connect_failures := 0}, settled(Pool)),
    unharmed(Config).

%% More than 16 MB. A pool that has one goes on with what it had, its leases and its new connections.
files_of_tls(Config) ->
    File = filename:join(?config(priv_dir, Config), "limits.pem"),
    {ok, Pem} = file:read_file(sockpool_tls_kit:pem(Config, "ca")),
    ok = file:write_file(File, Pem),
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server")),
    Pool = sockpool_tls_kit:pool(Config, Server, #{}, #{cacertfile => File}),
    Calm = asked(Pool, <<"calm">>),
    ok = file:write_file(File, [Pem, binary:copy(<<"\n">>, 16 * 1024 * 1024)]),
    ?assertEqual({error, {tls, {cacertfile, emsgsize}}}, sockpool:reload_tls(Pool)),
    ?assertEqual({error, {tls, {cacertfile, emsgsize}}},
                 sockpool:start_pool(limits_of_no_use, #{host => "localhost", port => 1, transport => tls,
                                                         tls => #{cacertfile => File}})),
    answered(Calm, <<"calm">>),
    ok = sockpool:discard(Calm),
    sockpool_tls_kit:echo(Pool),
    ?assertMatch(#{created := 2, closed := 1, connect_failures := 0}, settled(Pool)),
    unharmed(Config).

%%% Options.

bounds_of_options(Config) ->
    Names = sockpool_test_util:pools(),
    [?assertEqual({error, {bad_option, Key, Value}}, sockpool:start_pool(Name, (target(Config))#{Key => Value}))
     || Name <- [?config(pool, Config), ?config(calm, Config)], {Key, Value} <- beyond()],
    ?assertEqual({error, {bad_option, size, 500000}},
                 sockpool:start_pool(?config(pool, Config), (target(Config))#{size => 500000, max_overflow => 500001})),
    ?assertEqual(lists:sort(Names), lists:sort(sockpool_test_util:pools())),
    unharmed(Config).

beyond() ->
    [{size, 1000001}, {max_overflow, 1000001}, {max_waiting, 1 bsl 32}, {recv_limit, 1 bsl 31}, {sndbuf, 1 bsl 31},
     {recbuf, 1 bsl 31}, {port, 65536}, {backoff, {1, 1 bsl 32}}, {validate, {'after', 1 bsl 32}}]
        ++ [{Key, 1 bsl 32} || Key <- [overflow_ttl, checkout_timeout, connect_timeout, send_timeout, max_hold]].

%% The lease goes on with what it had.
bounds_of_setopts(Config) ->
    Pool = started(Config, #{}),
    Conn = asked(Pool, <<"held">>),
    [?assertEqual({error, {bad_option, Key, Value}}, sockpool:setopts(Conn, [{Key, Value}]))
     || {Key, Value} <- [{packet, 3}, {sndbuf, 1 bsl 31}, {recbuf, 0}, {nodelay, 2}, {keepalive, maybe_so}, {size, 5}]],
    answered(Conn, <<"held">>),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{checkouts := 1, checkins := 1}, no_losses(Pool, 2)),
    unharmed(Config).
