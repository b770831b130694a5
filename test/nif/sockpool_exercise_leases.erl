%%% The exercise's groups on who has a connection, and until when.
-module(sockpool_exercise_leases).

-export([leases/0, waiters/0, deaths/0, storm/0, races/0, peers_that_close/0, max_hold/0]).
-import(sockpool_exercise_util, [with_pool/2, until/1, settled/1, waits/2, holder/1,
                                 finish/1, kill/1, hold/1, in_parallel/2]).

-define(PATIENCE_MS, 30000).

-spec leases() -> ok.
leases() ->
    with_pool(#{}, fun leases/2).

leases(Name, _Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, #{pool := Name, transport := tcp, packet := raw, peername := Address}} =
        sockpool:info(Conn),
    {ok, Address} = sockpool:peername(Conn),
    {ok, {{127, 0, 0, 1}, _}} = sockpool:sockname(Conn),
    ok = sockpool:setopts(Conn, [{nodelay, false}, {keepalive, true}, {packet, 2}]),
    [{error, {bad_option, Key, Value}} = sockpool:setopts(Conn, [{Key, Value}])
     || {Key, Value} <- [{nodelay, 1}, {sndbuf, 0}, {packet, 3}, {colour, red}, {1, 2}]],
    ok = sockpool:checkin(Conn),
    [{error, closed} = F(Conn)
     || F <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
              fun sockpool:peername/1, fun sockpool:sockname/1,
              fun(C) -> sockpool:send(C, "x") end, fun(C) -> sockpool:recv(C, 0) end,
              fun(C) -> sockpool:setopts(C, [{nodelay, true}]) end,
              fun(C) -> sockpool:give_away(C, self()) end]],
    {ok, Buffers} = sockpool:checkout(Name),
    ok = sockpool:setopts(Buffers, [{sndbuf, 8192}, {recbuf, 8192}]),
    ok = sockpool:checkin(Buffers),
    {ok, Discarded} = sockpool:checkout(Name),
    ok = sockpool:discard(Discarded),
    given_away(Name),
    states(Name),
    ok = sockpool:transaction(Name, fun(C) -> sockpool:send(C, "") end),
    {ok, raised} = sockpool:execute(Name, fun(_) -> raised end),
    try sockpool:transaction(Name, fun(_) -> throw(up) end) catch throw:up -> ok end.

%% Also of a connection that is closed with a handle of its own, and of another one, in it.
states(Name) ->
    {ok, One} = sockpool:checkout(Name),
    {ok, Two} = sockpool:checkout(Name),
    {ok, undefined} = sockpool:state(One),
    [begin
         ok = sockpool:set_state(One, Term),
         {ok, Term} = sockpool:state(One)
     end || Term <- [x, #{a => [1.5, <<"b">>]}, {One, Two}, binary:copy(<<0>>, 60000), {self(), One}]],
    {error, emsgsize} = sockpool:set_state(One, binary:copy(<<0>>, 70000)),
    ok = sockpool:set_state(Two, {One, Two}),
    ok = sockpool:discard(Two),
    ok = sockpool:checkin(One),
    {error, closed} = sockpool:state(One).

given_away(Name) ->
    {ok, Conn} = sockpool:checkout(Name),
    Self = self(),
    Other = spawn(fun() -> on_request(Self) end),
    {error, not_owner} = ask(Other, fun() -> sockpool:send(Conn, "x") end),
    ok = sockpool:give_away(Conn, Other),
    {error, not_owner} = sockpool:checkin(Conn),
    ok = ask(Other, fun() -> sockpool:send(Conn, "x") end),
    {ok, <<"x">>} = ask(Other, fun() -> sockpool:recv(Conn, 1) end),
    ok = ask(Other, fun() -> sockpool:give_away(Conn, Self) end),
    ok = kill(Other),
    {error, noproc} = sockpool:give_away(Conn, Other),
    ok = sockpool:checkin(Conn).

on_request(Asker) ->
    receive Fun -> Asker ! {self(), Fun()} end,
    on_request(Asker).

ask(Pid, Fun) ->
    Pid ! Fun,
    receive {Pid, Answer} -> Answer end.

-spec waiters() -> ok.
waiters() ->
    with_pool(#{max_waiting => 3}, fun waiters/2).

waiters(Name, _Peer) ->
    First = [hold(Name), hold(Name)],
    {error, full} = sockpool:checkout(Name, 0),
    {error, timeout} = sockpool:checkout(Name, 10),
    Waiting = [holder(fun() -> sockpool:checkout(Name, infinity) end) || _ <- [1, 2, 3]],
    [ok = waits(Pid, [checkout]) || Pid <- Waiting],
    {error, full} = sockpool:checkout(Name, 1000),
    {error, full} = sockpool:request(Name, "x", 1, 1000),
    {ok, #{waiting := 3, leased := 2}} = sockpool:stats(Name),
    [ok = kill(Pid) || Pid <- First],
    [Dead | Alive] = Waiting,
    ok = kill(Dead),
    [{ok, _} = finish(Pid) || Pid <- Alive],
    ok.

%% The owner dies in every state that a lease can be in.
-spec deaths() -> ok.
deaths() ->
    with_pool(#{}, fun deaths/2).

deaths(Name, _Peer) ->
    Checkout = fun() -> {ok, C} = sockpool:checkout(Name, infinity), C end,
    [begin
         Pid = holder(State),
         ok = Wait(Pid),
         ok = kill(Pid),
         ok = settled(Name)
     end || {State, Wait} <-
                [{Checkout, fun idles/1},
                 {fun() -> C = Checkout(), ok = sockpool:send(C, "x"), C end, fun idles/1},
                 {fun() -> sockpool:recv(Checkout(), 1, infinity) end,
                  fun(Pid) -> waits(Pid, [recv_more]) end},
                 {fun() -> C = Checkout(), {error, timeout} = sockpool:recv(C, 1, 1), C end,
                  fun idles/1}]],
    ok = escaped_handle(Name).

idles(Pid) ->
    until(fun() -> erlang:process_info(Pid, status) =:= {status, waiting}
                       andalso element(2, erlang:process_info(Pid, current_function))
                       =/= {sockpool_wait, await, 2}
          end).

%% The handle outlives its owner, so that no destructor tells of the death.
escaped_handle(Name) ->
    Pid = holder(fun() -> {ok, Conn} = sockpool:checkout(Name), Conn end),
    Table = ets:new(handles, []),
    true = ets:insert(Table, {handle, finish(Pid)}),
    ok = settled(Name),
    [{handle, Conn}] = ets:lookup(Table, handle),
    {error, not_owner} = sockpool:send(Conn, "x"),
    true = ets:delete(Table),
    ok.

%% Owners killed at random moments.
-spec storm() -> ok.
storm() ->
    with_pool(#{size => 3, max_overflow => 2, overflow_ttl => 30},
              fun(Name, _Peer) ->
                      in_parallel(3, fun(_) -> [storm_kill(Name) || _ <- lists:seq(1, 40)] end)
              end).

storm_kill(Name) ->
    Pids = [spawn(fun() -> storm_work(Name) end) || _ <- [1, 2, 3]],
    receive after rand:uniform(12) -> ok end,
    [ok = kill(Pid) || Pid <- Pids].

storm_work(Name) ->
    case rand:uniform(3) of
        1 ->
            {ok, <<"abc">>} = sockpool:request(Name, "abc", 3, infinity);
        2 ->
            {ok, Conn} = sockpool:checkout(Name, infinity),
            ok = sockpool:send(Conn, "abc"),
            {ok, <<"abc">>} = sockpool:recv(Conn, 3, infinity),
            ok = sockpool:checkin(Conn);
        3 ->
            {ok, Conn} = sockpool:checkout(Name, infinity),
            ok = sockpool:checkin(Conn)
    end,
    storm_work(Name).

%% Time-outs that come together with what they wait for.
-spec races() -> ok.
races() ->
    with_pool(#{}, fun(Name, _Peer) ->
                           in_parallel(10, fun(_) -> [race(Name) || _ <- lists:seq(1, 20)] end),
                           in_parallel(2, fun(_) -> recv_races(Name) end)
                   end).

race(Name) ->
    Timeout = rand:uniform(4) - 1,
    case rand:uniform(2) of
        1 ->
            case sockpool:checkout(Name, Timeout) of
                {ok, Conn} -> ok = sockpool:checkin(Conn);
                {error, Reason} -> true = lists:member(Reason, [timeout, full])
            end;
        2 ->
            case sockpool:request(Name, "abc", 3, Timeout) of
                {ok, Reply} -> <<"abc">> = Reply;
                {error, Reason} -> true = lists:member(Reason, [timeout, full])
            end
    end.

recv_races(Name) ->
    {ok, Conn} = sockpool:checkout(Name, infinity),
    [begin
         ok = sockpool:send(Conn, <<I:32>>),
         {ok, <<I:32>>} = case sockpool:recv(Conn, 4, I rem 3) of
                              {error, timeout} -> sockpool:recv(Conn, 4, ?PATIENCE_MS);
                              Received -> Received
                          end
     end || I <- lists:seq(1, 60)],
    ok = sockpool:checkin(Conn).

-spec peers_that_close() -> ok.
peers_that_close() ->
    with_pool(#{size => 1}, fun peers_that_close/2).

peers_that_close(Name, Peer) ->
    [begin
         {ok, Conn} = sockpool:checkout(Name),
         {ok, Client} = sockpool:sockname(Conn),
         Leased andalso (ok = sockpool_scripted_peer:command(Peer, Client, Command)),
         Leased andalso (ok = dead(Conn, Command)),
         ok = sockpool:checkin(Conn),
         Leased orelse (ok = sockpool_scripted_peer:command(Peer, Client, Command)),
         {ok, <<"fresh">>} = sockpool:request(Name, "fresh", 5, ?PATIENCE_MS)
     end || Leased <- [true, false], Command <- [close, abort, {send, "stray"}]],
    watched(Name, Peer).

dead(Conn, {send, _}) ->
    {ok, <<"stra">>} = sockpool:recv(Conn, 4),
    ok;
dead(Conn, _Close) ->
    {error, Reason} = sockpool:recv(Conn, 1),
    true = lists:member(Reason, [closed, econnreset]),
    {error, _} = sockpool:recv(Conn, 1, 0),
    ok.

%% An idle connection is replaced without anybody asking for it, once it is watched.
watched(Name, Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, Client} = sockpool:sockname(Conn),
    ok = sockpool:checkin(Conn),
    {ok, #{closed := Closed}} = sockpool:stats(Name),
    ok = sockpool_scripted_peer:command(Peer, Client, close),
    until(fun() -> {ok, Stats} = sockpool:stats(Name), maps:get(closed, Stats) > Closed end).

-spec max_hold() -> ok.
max_hold() ->
    with_pool(#{max_hold => 50, size => 1},
              fun(Name, _Peer) ->
                      {ok, Waiting} = sockpool:checkout(Name),
                      {error, closed} = sockpool:recv(Waiting, 1, infinity),
                      {ok, Unused} = sockpool:checkout(Name),
                      {ok, Next} = sockpool:checkout(Name, infinity),
                      {error, closed} = sockpool:checkin(Unused),
                      ok = sockpool:checkin(Next)
              end).
