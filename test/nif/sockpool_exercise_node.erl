%%% Part of the exercise: transport => node, against sockpool_fake_node.
-module(sockpool_exercise_node).

-export([nodes/0]).

-import(sockpool_exercise_util, [started/1, settled/1, until/1, in_parallel/2, kill/1]).

%% @doc Calls one by one and at once, large and small, that come to nothing, and whose callers die; ticks
%% and garbage on idle and on leased connections; nodes that refuse and that say nothing.
-spec nodes() -> ok.
nodes() ->
    Peer = sockpool_fake_node:start(),
    Opts = (sockpool_fake_node:opts(Peer))#{size => 2, backoff => {1, 20}, connect_timeout => 60000},
    called(Opts),
    talked_to(Opts, Peer),
    refused(Opts),
    killed(Opts, Peer),
    ok = sockpool_fake_node:stop(Peer).

called(Opts) ->
    Pool = started(Opts),
    settled(Pool),
    {ok, 3} = sockpool:call(Pool, erlang, '+', [1, 2], 60000),
    {error, {exception, error, badarith, _}} = sockpool:call(Pool, erlang, '+', [1, a], 60000),
    {error, {bad_option, transport, node}} = sockpool:request(Pool, "x", packet, 1000),
    Large = binary:copy(<<"z">>, 3000000),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, #{transport := node, node := 'fake@127.0.0.1', creation := 7}} = sockpool:info(Conn),
    {ok, {{127, 0, 0, 1}, _}} = sockpool:peername(Conn),
    {ok, {{127, 0, 0, 1}, _}} = sockpool:sockname(Conn),
    ok = sockpool:setopts(Conn, [{nodelay, false}]),
    in_parallel(8, fun(_) -> {ok, Large} = sockpool:call(Conn, binary, copy, [Large], infinity) end),
    in_parallel(60, fun(_) -> {ok, 2} = sockpool:call(Conn, erlang, '+', [1, 1], infinity) end),
    true = register(exercise, self()),
    ok = sockpool:send_to(Conn, exercise, hello),
    receive hello -> ok end,
    true = unregister(exercise),
    ok = sockpool:checkin(Conn),
    {ok, Timed} = sockpool:checkout(Pool),
    {error, timeout} = sockpool:call(Timed, timer, sleep, [infinity], 50),
    ok = sockpool:discard(Timed),
    {ok, Kept} = sockpool:checkout(Pool),
    Holder = sockpool_exercise_util:hold(Pool),
    Waiter = spawn(fun() -> sockpool:call(Pool, erlang, node, [], infinity) end),
    until(fun() -> {ok, #{waiting := Waiting}} = sockpool:stats(Pool), Waiting =:= 1 end),
    ok = sockpool:checkin(Kept),
    until(fun() -> not is_process_alive(Waiter) end),
    kill(Holder),
    settled(Pool),
    ok = sockpool:stop_pool(Pool).

talked_to(Opts, Peer) ->
    Pool = started(Opts),
    settled(Pool),
    {ok, Leased} = sockpool:checkout(Pool),
    [begin
         until(fun() -> sockpool_fake_node:say(Peer, Frame) >= 1 end),
         _ = sockpool:call(Leased, erlang, node, [], 1000),
         _ = sockpool:call(Pool, erlang, node, [], 60000)
     end || Frame <- [<<>>, <<>>, <<112, 131, 104, 5, 97, 21>>, <<112, 131, 104, 5, 97, 31>>,
                      <<112, 131, 104, 3, 97, 2, 119, 0>>, <<112>>, <<0:800>>,
                      binary:copy(<<112>>, 70000)]],
    _ = sockpool:checkin(Leased),
    settled(Pool),
    ok = sockpool:stop_pool(Pool).

refused(Opts) ->
    Pool = started(Opts#{cookie => another, connect_timeout => 1000}),
    until(fun() ->
                  sockpool:checkout(Pool, 50) =:= {error, {unavailable, {node, wrong_cookie}}}
          end),
    ok = sockpool:stop_pool(Pool).

%% Connectors end in the middle of the handshake.
killed(Opts, Peer) ->
    ok = sockpool_fake_node:hush(Peer),
    Pool = started(Opts#{connect_timeout => 20}),
    until(fun() -> {ok, #{connect_failures := Failed}} = sockpool:stats(Pool), Failed >= 3 end),
    {error, {unavailable, Reason}} = sockpool:checkout(Pool, 10),
    %% The host may have an IPv6 address as well, where nobody listens.
    {true, _} = {lists:member(Reason, [timeout, {timeout, dirty_schedulers}, econnrefused]), Reason},
    ok = sockpool:stop_pool(Pool).
