%%% Pools of processes: how workers are started, and looked at before anybody gets them. What comes later is in
%%% sockpool_worker_lease_SUITE, how they end with their pool in sockpool_worker_ends_SUITE.
-module(sockpool_worker_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([given_as/1, failed_starts/1, what_a_failed_start_leaves_ends/1, pid_of_another_node/1, dead_pid/1,
         unavailable_until_it_can_be_had/1, hanging_start_delays_no_other/1, what_hangs_ends/1,
         what_hangs_ends_though_linked_to_another_node/1, killed_in_init_is_killed/1, ends_at_once/1]).
-export([init_function/1, init_that_hangs/1, validate_true/1, validate_not_true/1, validate_holds_the_time_out/1,
         validate_of_one_that_waited/1]).
-export([many_at_once/1, default_parallelism/1, parallel_connects/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1, assert_no_messages/0,
                             unavailable/1, elapsed_ms/1]).
-import(sockpool_test_worker, [opts/1, opts/2, started/2, settled_pool/2, taken/1, workers/2, await_dead/1, killed/1, drain/0]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [given_as, failed_starts, what_a_failed_start_leaves_ends, pid_of_another_node, dead_pid,
       unavailable_until_it_can_be_had, hanging_start_delays_no_other, ends_at_once, what_hangs_ends,
       what_hangs_ends_though_linked_to_another_node, killed_in_init_is_killed,
       init_function, init_that_hangs, validate_true, validate_not_true, validate_holds_the_time_out,
       validate_of_one_that_waited, many_at_once, default_parallelism, parallel_connects]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool_cluster:be_a_node(),
    [{peer, sockpool_cluster:start_plain_peer()} | Config].

end_per_suite(Config) ->
    ok = sockpool_cluster:stop_peer(?config(peer, Config)),
    application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(_Case, Config) -> sockpool:stop_pool(?config(pool, Config)).

%% Says `{starting, Pid}', and waits for `go'.
gated() ->
    Test = self(),
    fun() -> Test ! {starting, self()}, receive go -> ok end end.

%%% Starts.

given_as(Config) ->
    Self = self(),
    What = #{to => Self},
    lists:foreach(
      fun(Given) ->
              Pool = settled_pool(Config, (opts(#{}))#{worker := Given}),
              [Worker] = workers(Pool, 1),
              receive {worker, starting, Worker} -> ok end,
              receive {worker, started, Worker} -> ok end,
              ?assertEqual({echo, hello}, gen_server:call(Worker, hello)),
              ?assertEqual({ok, {echo, hi}},
                           sockpool:execute(Pool, fun(Pid) -> gen_server:call(Pid, hi) end)),
              ok = sockpool:stop_pool(Pool),
              ok = assert_no_messages()
      end,
      [{sockpool_test_worker, What}, {sockpool_test_worker, start_link, [What]},
       {sockpool_test_worker, start_link, [extra, What]}, fun() -> sockpool_test_worker:start_link(What) end]).

%% The reason is told, the pool stays, and tries again.
failed_starts(Config) ->
    Init = fun(Fun) -> {sockpool_test_worker, #{init => Fun}} end,
    [begin
         Pool = started(Config, (opts(#{}))#{worker := Given}),
         Controller = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
         Reason = unavailable(Pool),
         ?assert(Matches(Reason), {Given, Reason}),
         wait_until(fun() -> stat(Pool, connect_failures) > 3 end),
         ?assertEqual(Controller, sockpool_nif:pool_controller(sockpool_pool:find(Pool))),
         ?assertMatch(#{last_error := Reason}, stats(Pool)),
         ok = sockpool:stop_pool(Pool)
     end
     || {Given, Matches} <-
            [{fun() -> {error, no_license} end, is({worker, no_license})},
             {fun() -> ok end, is({worker, {bad_return, ok}})},
             {fun() -> ignore end, is({worker, {bad_return, ignore}})},
             {fun() -> {ok, not_a_pid} end, is({worker, {bad_return, {ok, not_a_pid}}})},
             {fun() -> error(oops) end, raised(worker, error, oops)},
             {fun() -> throw(oops) end, raised(worker, throw, oops)},
             {fun() -> exit(oops) end, raised(worker, exit, oops)},
             {Init(fun() -> {stop, no_table} end), is({worker, no_table})},
             {Init(fun() -> ignore end), is({worker, {bad_return, ignore}})},
             {Init(fun() -> exit(gone) end), is({worker, gone})},
             %% Without the arguments, among which a password may be.
             {Init(fun() -> lists:last(secret) end), fun({worker, {function_clause, [{lists, last, 1, _} | _]}}) -> true;
                                                        (_) -> false
                                                     end},
             {{sockpool_test_worker, returns, [fun() -> {error, in_m_f_args} end]}, is({worker, in_m_f_args})}]],
    ok = drain().

is(Reason) -> fun(Told) -> Told =:= Reason end.

raised(Key, Class, Reason) ->
    fun({Told, {What, Why, Frames}}) -> {Told, What, Why} =:= {Key, Class, Reason} andalso is_list(Frames);
       (_) -> false
    end.

%% That it has not returned what it should is no reason to keep it.
what_a_failed_start_leaves_ends(Config) ->
    Self = self(),
    [begin
         Pool = started(Config, (opts(#{}))#{worker := fun() ->
                                                               {ok, Pid} = sockpool_test_worker:start_link(What),
                                                               Self ! {left, Pid},
                                                               Returned(Pid)
                                                       end,
                                             worker_shutdown => 50}),
         First = receive {left, Left} -> Left end,
         _ = await_dead(First),
         receive {left, Second} -> _ = await_dead(Second) end,
         ok = sockpool:stop_pool(Pool),
         [_ = await_dead(Pid) || Pid <- left([])]
     end || What <- [#{}, #{trap => true}, #{stubborn => true}],
            Returned <- [fun(Pid) -> Pid end, fun(_) -> {error, other} end, fun(_) -> error(oops) end]].

left(Pids) -> receive {left, Pid} -> left([Pid | Pids]) after 0 -> Pids end.

pid_of_another_node(Config) ->
    #{node := Node} = ?config(peer, Config),
    Remote = erpc:call(Node, erlang, whereis, [init]),
    Pool = started(Config, (opts(#{}))#{worker := fun() -> {ok, Remote} end}),
    ?assertEqual({worker, {bad_return, {ok, Remote}}}, unavailable(Pool)).

dead_pid(Config) ->
    Pool = started(Config, (opts(#{}))#{worker := fun() ->
                                                          {Pid, Monitor} = spawn_monitor(fun() -> ok end),
                                                          receive {'DOWN', Monitor, _, _, _} -> {ok, Pid} end
                                                  end}),
    ?assertEqual(closed, unavailable(Pool)),
    wait_until(fun() -> stat(Pool, connect_failures) > 3 end),
    %% An attempt may be under way.
    #{created := Created, total := Total, connecting := Connecting} = stats(Pool),
    ?assertEqual({0, 0}, {Created, Total - Connecting}).

unavailable_until_it_can_be_had(Config) ->
    Gate = ets:new(gate, [public]),
    Start = fun() ->
                    case ets:member(Gate, open) of
                        true -> sockpool_test_worker:start_link(#{});
                        false -> {error, closed_today}
                    end
            end,
    Pool = started(Config, (opts(#{}))#{worker := Start, size := 3, backoff := {50, 50}}),
    ?assertEqual({worker, closed_today}, unavailable(Pool)),
    %% One after the other, with pauses, random below 50 ms: see sockpool_worker_lease_SUITE.
    {Ms, _} = elapsed_ms(fun() ->
                             Before = stat(Pool, connect_attempts),
                             wait_until(fun() -> stat(Pool, connect_attempts) > Before + 20 end)
                         end),
    ?assert(Ms >= 199, Ms),
    Waiter = start(fun() -> {ok, {echo, 1}} = sockpool:execute(Pool, fun(Pid) -> gen_server:call(Pid, 1) end, infinity) end),
    ets:insert(Gate, {open}),
    {ok, {echo, 1}} = await(Waiter),
    #{idle := 3} = settled(Pool).

%% All the others are there while it hangs; then its time is over.
hanging_start_delays_no_other(Config) ->
    Hangs = atomics:new(1, []),
    Init = fun() -> case atomics:add_get(Hangs, 1, 1) of 1 -> receive never -> ok end; _ -> ok end end,
    Pool = started(Config, opts(#{init => Init}, #{size => 10, connect_timeout => 300})),
    wait_until(fun() -> stat(Pool, idle) =:= 9 end),
    ?assertMatch(#{connecting := 1, connect_failures := 0}, stats(Pool)),
    wait_until(fun() -> stat(Pool, connect_failures) =:= 1 end),
    #{last_error := timeout} = settled(Pool),
    ?assertEqual(10, length(lists:usort(workers(Pool, 10)))).

%% What it has started so far, whether it traps exits or not.
what_hangs_ends(Config) ->
    [begin
         Pool = started(Config, opts(#{init => gated(), trap => Trap},
                                     #{connect_timeout => 60, worker_shutdown => 30})),
         receive {starting, Pid} -> _ = await_dead(Pid) end,
         ?assertEqual(timeout, unavailable(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || Trap <- [false, true]].

%% The link goes to a process that this node knows nothing of.
what_hangs_ends_though_linked_to_another_node(Config) ->
    #{node := Node} = ?config(peer, Config),
    Far = spawn(Node, timer, sleep, [infinity]),
    Test = self(),
    Start = fun() ->
                    true = link(Far),
                    Test ! {starting, self()},
                    receive never -> ok end
            end,
    Pool = started(Config, (opts(#{}))#{worker := Start, connect_timeout => 60}),
    receive {starting, Connector} -> killed = await_dead(Connector) end,
    ok = sockpool:stop_pool(Pool).

killed_in_init_is_killed(Config) ->
    Pool = started(Config, opts(#{init => gated()}, #{backoff => {1, 1}})),
    receive {starting, Pid} -> exit(Pid, kill) end,
    receive {starting, Next} -> Next ! go end,
    #{last_error := {worker, killed}} = settled(Pool).

%% Before, while or after the pool hears of it: the reason is always its own.
ends_at_once(Config) ->
    Start = fun() -> {ok, spawn_link(fun() -> exit(at_once) end)} end,
    Pool = started(Config, (opts(#{}))#{worker := Start, size := 4, backoff := {1, 1}}),
    wait_until(fun() ->
                       #{connect_attempts := Attempts, last_error := Error} = stats(Pool),
                       ?assert(Error =:= undefined orelse Error =:= {worker, at_once}, Error),
                       Attempts >= 300
               end),
    ?assertMatch(#{last_error := {worker, at_once}}, stats(Pool)).

%%% What looks at a worker before anybody gets it.

init_function(Config) ->
    Self = self(),
    lists:foreach(
      fun({Init, Matches}) ->
              Pool = started(Config, opts(#{trap => true}, #{init => Init})),
              Reason = unavailable(Pool),
              ?assert(Matches(Reason), Reason),
              %% None of them is left.
              receive {worker, started, Worker} -> _ = await_dead(Worker) end,
              ?assertMatch(#{idle := 0, created := 0}, stats(Pool)),
              ok = sockpool:stop_pool(Pool)
      end,
      [{fun(_) -> {error, not_now} end, is({init, not_now})},
       {fun(_) -> yes end, is({init, {bad_return, yes}})},
       {fun(_) -> error(oops) end, raised(init, error, oops)},
       {fun(_) -> throw(oops) end, raised(init, throw, oops)},
       {fun(Worker) -> killed(Worker), ok end, is({worker, killed})}]),
    ok = drain(),
    Pool = settled_pool(Config, opts(#{}, #{init => fun(Worker) -> Self ! {init, Worker}, ok end})),
    [Worker] = workers(Pool, 1),
    receive {init, Worker} -> ok end.

init_that_hangs(Config) ->
    Pool = started(Config, opts(#{trap => true}, #{init => fun(_) -> receive never -> ok end end, connect_timeout => 60})),
    ?assertEqual(timeout, unavailable(Pool)),
    receive {worker, started, Worker} -> _ = await_dead(Worker) end.

validate_true(Config) ->
    Self = self(),
    Pool = settled_pool(Config, opts(#{}, #{validate => fun(Worker) -> Self ! {asked, Worker, self()}, true end})),
    {Conn, Worker} = taken(Pool),
    receive {asked, Worker, Self} -> ok end,
    ok = sockpool:checkin(Conn),
    Worker = sockpool:transaction(Pool, fun(Pid) -> Pid end),
    receive {asked, Worker, Self} -> ok end,
    ?assertMatch(#{created := 1, closed := 0}, stats(Pool)).

%% The worker is closed, and the next one is asked.
validate_not_true(Config) ->
    lists:foreach(
      fun({Round, No, Matches}) ->
              Seen = ets:new(seen, [public]),
              Validate = fun(Worker) ->
                                 case ets:insert_new(Seen, {first, Worker}) of
                                     true -> No();
                                     false -> true
                                 end
                         end,
              Pool = settled_pool(Config, opts(#{}, #{validate => Validate, size => 2})),
              {Conn, Worker} = taken(Pool),
              [{first, Unfit}] = ets:lookup(Seen, first),
              ?assertNotEqual(Unfit, Worker),
              _ = await_dead(Unfit),
              ok = sockpool:checkin(Conn),
              %% With those of the stops before.
              Closed = 3 * Round - 2,
              #{closed := Closed} = Stats = settled(Pool),
              ?assert(Matches(maps:get(last_error, Stats)), Stats),
              ok = sockpool:stop_pool(Pool)
      end,
      [{1, fun() -> false end, is(undefined)},
       {2, fun() -> perhaps end, is({validate, {bad_return, perhaps}})},
       {3, fun() -> error(oops) end, raised(validate, error, oops)},
       {4, fun() -> throw(oops) end, raised(validate, throw, oops)},
       {5, fun() -> exit(oops) end, raised(validate, exit, oops)}]).

%% However many are not fit.
validate_holds_the_time_out(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{validate => fun(_) -> false end})),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:checkout(Pool, 150) end),
    ?assertEqual({error, timeout}, Result),
    %% What each wait took is known by a clock that goes in steps of some milliseconds.
    ?assert(Ms >= 130, Ms),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    #{leased := 0} = settled(Pool).

validate_of_one_that_waited(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{validate => fun(Worker) -> get(unfit) =/= Worker end})),
    {Conn, Worker} = taken(Pool),
    Waiter = start(fun() ->
                           put(unfit, Worker),
                           {ok, Other} = sockpool:execute(Pool, fun(Pid) -> Pid end, infinity),
                           ok = assert_no_messages(),
                           Other
                   end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool:checkin(Conn),
    Other = await(Waiter),
    ?assertNotEqual(Worker, Other),
    _ = await_dead(Worker),
    #{created := 2, closed := 1} = settled(Pool).

%%% How many at once.

%% All that are wanted, where the pool may.
many_at_once(Config) ->
    Now = atomics:new(2, []),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, opts(#{init => overlapping(Now, 2000)}, #{size => 100, connect_parallelism => 100})),
    _ = settled(Pool),
    ?assertEqual(100, atomics:get(Now, 2)).

%% Counts those that overlap, and notes the most.
overlapping(Now, Ms) ->
    fun() ->
            Overlap = atomics:add_get(Now, 1, 1),
            higher(Now, Overlap),
            receive after Ms -> ok end,
            _ = atomics:sub(Now, 1, 1),
            ok
    end.

higher(Now, Overlap) ->
    case atomics:get(Now, 2) of
        Most when Most >= Overlap -> ok;
        Most -> case atomics:compare_exchange(Now, 2, Most, Overlap) of ok -> ok; _ -> higher(Now, Overlap) end
    end.

default_parallelism(Config) ->
    Now = atomics:new(2, []),
    _ = settled_pool(Config, opts(#{init => overlapping(Now, 300)}, #{size => 150})),
    ?assertEqual(64, atomics:get(Now, 2)).

%% Of the others as well: here all initialise at once.
parallel_connects(Config) ->
    Now = atomics:new(2, []),
    Init = fun(_Conn) -> (overlapping(Now, 50))() end,
    Target = sockpool_test_server:target(sockpool_test_server:start()),
    _ = settled_pool(Config, Target#{size => 30, connect_parallelism => 7, init => Init}),
    ?assertEqual(7, atomics:get(Now, 2)).
