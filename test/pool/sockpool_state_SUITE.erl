%%% The state of a connection: who sets it, who sees it, what it may be, and that it ends with the connection.
-module(sockpool_state_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([counted/2]).
-export([of_init/1, of_init_by_hand/1, goes_with_the_connection/1, refused/1, how_large/1, too_large_for_init/1,
         owner_dies/1, of_workers/1, worker_returned_by_another/1]).
-export([ends_with_its_connection/1, its_own_handle/1, chain_of_handles/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, run_all/1]).

%% More than a scheduler's stack could hold calls within calls.
-define(CHAIN, 5000).

suite() -> [{timetrap, {minutes, 2}}].

%% The last ones look at the memory of all of the VM, or make it busy.
all() -> [{group, side_by_side}, ends_with_its_connection, its_own_handle, chain_of_handles].

groups() ->
    [{side_by_side, [parallel],
      [of_init, of_init_by_hand, goes_with_the_connection, refused, how_large, too_large_for_init, owner_dies, of_workers,
       worker_returned_by_another]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

%% A name of its own: another suite has cases of these names, and a pool counts on where its name has counted before.
init_per_testcase(Case, Config) -> [{pool, list_to_atom("state_" ++ atom_to_list(Case))} | Config].

end_per_testcase(Case, _Config) -> _ = sockpool:stop_pool(Case).

pool(Config, Opts) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Few = maps:merge(#{size => 1, max_overflow => 0, backoff => {1, 50}}, sockpool_test_server:target(Server)),
    ok = sockpool:start_pool(Pool, maps:merge(Few, Opts)),
    Pool.

seen(Pool) ->
    {ok, State} = sockpool:execute(Pool, fun sockpool:state/1),
    State.

%%% Setting and seeing it.

of_init(Config) ->
    Counter = counters:new(1, []),
    Pool = pool(Config, #{size => 2, init => {?MODULE, counted, [Counter]}}),
    _ = settled(Pool),
    {ok, One} = sockpool:checkout(Pool),
    {ok, Two} = sockpool:checkout(Pool),
    States = [sockpool:state(Conn) || Conn <- [One, Two]],
    ?assertEqual([{ok, {state, 1}}, {ok, {state, 2}}], lists:sort(States)),
    [ok = sockpool:checkin(Conn) || Conn <- [One, Two]].

counted(_Conn, Counter) ->
    ok = counters:add(Counter, 1, 1),
    {ok, {state, counters:get(Counter, 1)}}.

%% By what init calls, and what it returns is what counts.
of_init_by_hand(Config) ->
    Made = counters:new(1, []),
    Pool = pool(Config, #{init => fun(Conn) ->
                                          {ok, undefined} = sockpool:state(Conn),
                                          ok = sockpool:set_state(Conn, set),
                                          {ok, set} = sockpool:state(Conn),
                                          ok = counters:add(Made, 1, 1),
                                          case counters:get(Made, 1) of
                                              1 -> ok;
                                              _ -> {ok, returned}
                                          end
                                  end}),
    ?assertEqual({ok, set}, seen(Pool)),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:discard(Conn),
    ?assertEqual({ok, returned}, seen(Pool)).

goes_with_the_connection(Config) ->
    Pool = pool(Config, #{}),
    ?assertEqual({ok, undefined}, seen(Pool)),
    {ok, ok} = sockpool:execute(Pool, fun(Conn) -> sockpool:set_state(Conn, #{a => [1, <<"b">>]}) end),
    ?assertEqual({ok, #{a => [1, <<"b">>]}}, await(start(fun() -> seen(Pool) end))),
    {ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000),
    ?assertEqual({ok, #{a => [1, <<"b">>]}}, seen(Pool)),
    {ok, ok} = sockpool:execute(Pool, fun(Conn) -> ok = sockpool:set_state(Conn, b), sockpool:set_state(Conn, c) end),
    ?assertEqual({ok, c}, seen(Pool)),
    {ok, ok} = sockpool:execute(Pool, fun sockpool:discard/1),
    ?assertEqual({ok, undefined}, seen(Pool)).

refused(Config) ->
    Pool = pool(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Both = fun(C) -> [sockpool:state(C), sockpool:set_state(C, x)] end,
    ?assertEqual([{error, not_owner}, {error, not_owner}], await(start(fun() -> Both(Conn) end))),
    ?assertEqual({ok, undefined}, sockpool:state(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertEqual([{error, closed}, {error, closed}], Both(Conn)),
    Bad = {error, {bad_argument, conn, Pool}},
    ?assertEqual([Bad, Bad], Both(Pool)).

%%% How large it may be.

how_large(Config) ->
    Pool = pool(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Most = 65536,
    Fits = [lists:duplicate(Most div 2 - 1, a), lists:duplicate(Most div 2 - 1, []), binary:copy(<<0>>, Most - 1),
            list_to_tuple(lists:duplicate(Most - 1, a)), maps:from_list([{N, N} || N <- lists:seq(1, Most div 12)]),
            1 bsl 500000, [a | b], {self(), make_ref(), 1.5, <<1:3>>, fun() -> Most end}],
    [begin
         ?assertEqual(ok, sockpool:set_state(Conn, Term)),
         ?assertEqual({ok, Term}, sockpool:state(Conn))
     end || Term <- Fits],
    Closed = lists:duplicate(Most, a),
    %% What would never end if it were looked at whole.
    Shared = lists:foldl(fun(_, Term) -> {Term, Term} end, leaf, lists:seq(1, 200)),
    TooLarge = [lists:duplicate(Most, a), binary:copy(<<0>>, Most), <<0:(8 * Most + 1)>>, 1 bsl (8 * Most),
                list_to_tuple(lists:duplicate(Most, a)), #{a => #{b => lists:duplicate(Most, a)}}, fun() -> Closed end,
                Shared, [Shared | Shared]],
    ok = sockpool:set_state(Conn, before),
    [?assertEqual({error, emsgsize}, sockpool:set_state(Conn, Term)) || Term <- TooLarge],
    ?assertEqual({ok, before}, sockpool:state(Conn)),
    ok = sockpool:checkin(Conn).

too_large_for_init(Config) ->
    Pool = pool(Config, #{init => fun(_) -> {ok, lists:duplicate(65536, a)} end}),
    ?assertEqual({init, {state, emsgsize}}, sockpool_test_util:unavailable(Pool)),
    ?assertEqual("connecting fails: init returned a state of more than 65,536 terms and bytes (emsgsize)",
                 lists:flatten(sockpool:format_error({unavailable, {init, {state, emsgsize}}}))).

%%% Whose end is whose.

%% What he set may be of what he did not come to do.
owner_dies(Config) ->
    Pool = pool(Config, #{}),
    await(start(fun() -> {ok, Conn} = sockpool:checkout(Pool), sockpool:set_state(Conn, half_done) end)),
    wait_until(fun() -> stat(Pool, created) =:= 2 end),
    ?assertEqual({ok, undefined}, seen(Pool)),
    ?assertMatch(#{abandoned := 1, closed := 1}, settled(Pool)).

of_workers(Config) ->
    Start = fun() -> {ok, spawn_link(fun() -> receive stop -> ok end end)} end,
    Pool = pool(Config, #{transport => worker, worker => Start, host => undefined, port => undefined,
                          init => fun(Pid) -> {ok, {of_init, Pid}} end}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({ok, {of_init, sockpool:worker(Conn)}}, sockpool:state(Conn)),
    ok = sockpool:set_state(Conn, later),
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool),
    ?assertEqual({ok, later}, sockpool:state(Again)),
    ok = sockpool:checkin(Again).

%% As poolboy's checkin does: so the next owner's calls meet those of the last one.
worker_returned_by_another(Config) ->
    Start = fun() -> {ok, spawn_link(fun() -> receive stop -> ok end end)} end,
    Name = pool(Config, #{transport => worker, worker => Start, host => undefined, port => undefined}),
    _ = settled(Name),
    Pool = persistent_term:get({sockpool, Name}),
    Until = erlang:monotonic_time(millisecond) + 500,
    Using = counters:new(1, []),
    ok = counters:put(Using, 1, 2),
    Use = fun Use(Conn) ->
                  Own = {self(), make_ref()},
                  _ = sockpool:set_state(Conn, Own),
                  case sockpool:state(Conn) of
                      {ok, {Pid, _}} when is_pid(Pid) -> Use(Conn);
                      {error, closed} -> ok
                  end
          end,
    %% It may be returned before he asks which it is; it is the one of before, then.
    Tell = fun(Worker) -> is_pid(Worker) andalso persistent_term:put({?MODULE, worker}, Worker) end,
    Users = [fun() ->
                     (fun Loop() ->
                             case sockpool:checkout(Name, 100) of
                                 {ok, Conn} -> _ = Tell(sockpool:worker(Conn)), Use(Conn);
                                 {error, _} -> ok
                             end,
                             erlang:monotonic_time(millisecond) < Until andalso Loop()
                     end)(),
                     counters:sub(Using, 1, 1)
             end || _ <- [1, 2]],
    Return = fun Loop() ->
                     case persistent_term:get({?MODULE, worker}, none) of
                         Pid when is_pid(Pid) -> ok = sockpool_nif:return_worker(Pool, Pid, 0);
                         _ -> ok
                     end,
                     case counters:get(Using, 1) of
                         0 -> ok;
                         _ -> erlang:yield(), Loop()
                     end
             end,
    _ = run_all([Return | Users]),
    _ = persistent_term:erase({?MODULE, worker}),
    ?assertMatch(#{leased := 0, total := 1}, settled(Name)).

%%% Its memory.

%% What it is of is off the heap, and counted.
large() -> atomics:new(1000000, []).

ends_with_its_connection(Config) ->
    Before = erlang:memory(total),
    Pool = pool(Config, #{size => 8, init => fun(_) -> {ok, large()} end}),
    _ = settled(Pool),
    ?assert(erlang:memory(total) - Before > 50000000),
    Gone = fun() -> erlang:memory(total) - Before < 8000000 end,
    {ok, Conn} = sockpool:checkout(Pool),
    [begin {ok, Other} = sockpool:checkout(Pool), ok = sockpool:set_state(Other, small), ok = sockpool:checkin(Other) end
     || _ <- lists:seq(1, 100)],
    ok = sockpool:set_state(Conn, large()),
    ok = sockpool:stop_pool(Pool),
    %% With the handle still in its owner's hands.
    wait_until(Gone),
    ?assertEqual({error, closed}, sockpool:state(Conn)).

%% A ring, which would keep itself.
its_own_handle(Config) ->
    Pool = pool(Config, #{init => fun(Conn) -> {ok, Conn} end}),
    _ = settled(Pool),
    Before = erlang:memory(total),
    await(start(fun() ->
                        {ok, Conn} = sockpool:checkout(Pool),
                        {ok, {sockpool_conn, _, _} = Attempt} = sockpool:state(Conn),
                        {error, not_owner} = sockpool:state(Attempt),
                        ok = sockpool:set_state(Conn, {Conn, large()})
                end)),
    wait_until(fun() -> stat(Pool, created) =:= 2 end),
    wait_until(fun() -> erlang:memory(total) - Before < 4000000 end),
    ?assertMatch(#{abandoned := 1, closed := 1}, settled(Pool)).

%% Each has the handle of the next in its state, so that the end of one is the end of all: in the hands of a process, and
%% of one who has died.
chain_of_handles(Config) ->
    Start = fun() -> {ok, spawn_link(fun() -> receive stop -> ok end end)} end,
    Pool = pool(Config, #{transport => worker, worker => Start, host => undefined, port => undefined, size => ?CHAIN,
                          worker_shutdown => 100}),
    First = chain(Pool),
    exit(First, kill),
    wait_until(fun() -> stat(Pool, abandoned) =:= ?CHAIN end),
    Second = chain(Pool),
    ok = sockpool:stop_pool(Pool),
    ?assert(is_process_alive(Second)),
    exit(Second, kill).

%% Who has the first one of a chain of all.
chain(Pool) ->
    wait_until(fun() -> stat(Pool, idle) =:= ?CHAIN end),
    Self = self(),
    Holder = spawn(fun() ->
        First = chained(Pool, ?CHAIN, last),
        true = garbage_collect(),
        Self ! {self(), chained},
        receive {Self, First} -> ok end
    end),
    receive {Holder, chained} -> Holder end.

chained(_Pool, 0, Next) ->
    Next;
chained(Pool, Left, Next) ->
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:set_state(Conn, Next),
    chained(Pool, Left - 1, Conn).
