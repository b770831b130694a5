%%% What differs from poolboy: a case for each line of docs/poolboy.md.
-module(sockpool_poolboy_differs_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([documented/1, no_worker_to_be_had/1, time_for_a_start/1, many_starts_at_once/1, late_checkin/1,
         checkin_for_another_by_who_had_it/1, checkin_by_another_name/1, erased_dictionary/1, worker_supervisor/1,
         bad_options/1, ends_under_a_waiter/1, crash_under_a_waiter/1, stop_waits_for_workers/1, idle_of_the_scheduler/1,
         undocumented_calls/1, no_time/1]).

-import(sockpool_test_util, [wait_until/1, start/1, await/1, on_scheduler/2]).

-define(SHIM, sockpool_poolboy).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, side_by_side}].

groups() -> [{side_by_side, [parallel], lists:append([Cases || {_, Cases} <- lines()])}].

%% How the line begins, and who tests it.
lines() ->
    [{"a worker cannot be started", [no_worker_to_be_had]},
     {"a worker's start takes more than a minute", [time_for_a_start]},
     {"workers are started", [many_starts_at_once]},
     {"a check-in by another process, and after that", [late_checkin, checkin_for_another_by_who_had_it]},
     {"a check-in with the name of another pool", [checkin_by_another_name]},
     {"the owner calls `erase/0`", [erased_dictionary]},
     {"`{worker_supervisor, _}`", [worker_supervisor]},
     {"`worker_module` is missing", [bad_options]},
     {"the pool ends while somebody waits", [ends_under_a_waiter, crash_under_a_waiter]},
     {"`stop/1`", [stop_waits_for_workers]},
     {"which idle worker is next", [idle_of_the_scheduler]},
     {"`gen_server:call(Pool, get_all_workers)`", [undocumented_calls]},
     {"a time of 0", [no_time]},
     %% sockpool_poolboy_remote_SUITE:sockpool_has_to_run_there
     {"pools of other nodes", [documented]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, list_to_atom("differs_" ++ atom_to_list(Case))} | Config].

end_per_testcase(_Case, _Config) -> ok.

%% The table has these lines, and no other.
documented(_Config) ->
    {ok, Text} = file:read_file(filename:join([sockpool_test_util:root(), "README.md"])),
    [_, After] = binary:split(Text, <<"## Coming from poolboy">>),
    [Table, _] = binary:split(After, <<"\n## ">>),
    Rows = [Row || <<"| ", Row/binary>> <- binary:split(Table, <<"\n">>, [global])],
    [_Heading | Lines] = Rows,
    ?assertEqual(length(lines()), length(Lines)),
    [?assertMatch({match, _}, re:run(Line, ["^\\Q", Begins, "\\E"])) || {Line, {Begins, _}} <- lists:zip(Lines, lines())].

%% One that is lost while it cannot be replaced does no harm either.
no_worker_to_be_had(Config) ->
    Works = atomics:new(1, []),
    Init = fun() -> case atomics:get(Works, 1) of 0 -> {stop, refused}; 1 -> {ok, args} end end,
    Pool = started(Config, 1, 1, [{init, Init}]),
    Pid = whereis(Pool),
    ?assertExit({timeout, {gen_server, call, _}}, ?SHIM:checkout(Pool, true, 10)),
    ?assertExit({timeout, {gen_server, call, _}}, ?SHIM:checkout(Pool, false, 10)),
    {ok, #{last_error := {worker, refused}}} = sockpool:stats(Pool),
    ok = atomics:put(Works, 1, 1),
    Worker = ?SHIM:checkout(Pool, true, 30000),
    ok = atomics:put(Works, 1, 0),
    true = exit(Worker, kill),
    ?assertExit({timeout, {gen_server, call, _}}, ?SHIM:checkout(Pool, true, 300)),
    ?assertEqual(Pid, whereis(Pool)),
    ok = atomics:put(Works, 1, 1),
    ?assert(is_pid(?SHIM:checkout(Pool, true, 30000))).

%% By the time that it is given: nobody waits a minute here.
time_for_a_start(Config) ->
    Pool = started(Config, 1, 0, []),
    State = sys:get_state(Pool),
    ?assertMatch([#{connect_timeout := 60000, backoff := {100, 2000}}],
                 [Opts || #{connect_timeout := _} = Opts <- tuple_to_list(State)]).

many_starts_at_once(Config) ->
    Together = atomics:new(1, []),
    Init = fun() ->
                   ok = atomics:add(Together, 1, 1),
                   ok = wait_until(fun() -> atomics:get(Together, 1) =:= 10 end),
                   {ok, args}
           end,
    Pool = started(Config, 10, 0, [{init, Init}]),
    ?assertEqual({ready, 10, 0, 0}, ?SHIM:status(Pool)).

late_checkin(Config) ->
    Pool = started(Config, 1, 0, []),
    Worker = ?SHIM:checkout(Pool),
    Next = start(fun() -> W = ?SHIM:checkout(Pool, true, infinity), receive done -> {W, ?SHIM:status(Pool)} end end),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 1 end),
    ok = await(start(fun() -> ?SHIM:checkin(Pool, Worker) end)),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 0 end),
    ok = ?SHIM:checkin(Pool, Worker),
    element(1, Next) ! done,
    ?assertEqual({Worker, {full, 0, 0, 1}}, await(Next)).

checkin_for_another_by_who_had_it(Config) ->
    Pool = started(Config, 1, 0, []),
    Worker = ?SHIM:checkout(Pool),
    ok = await(start(fun() -> ?SHIM:checkin(Pool, Worker) end)),
    Self = self(),
    Owner = spawn_link(fun() -> Self ! {owned, ?SHIM:checkout(Pool)}, receive done -> ok end end),
    receive {owned, Worker} -> ok end,
    ok = ?SHIM:checkin(Pool, Worker),
    ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Pool)),
    ok = ?SHIM:checkin(Pool, Worker),
    ?assertEqual({ready, 1, 0, 0}, ?SHIM:status(Pool)),
    Owner ! done.

checkin_by_another_name(Config) ->
    Pool = started(Config, 1, 0, []),
    Worker = ?SHIM:checkout(Pool),
    %% Of who is not the owner that is ignored, as by poolboy.
    ok = await(start(fun() -> ?SHIM:checkin(no_such_pool, Worker) end)),
    ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Pool)),
    ok = ?SHIM:checkin(no_such_pool, Worker),
    ?assertEqual({ready, 1, 0, 0}, ?SHIM:status(Pool)).

%% Who has erased it may still use the worker, so that nobody else gets that one.
erased_dictionary(Config) ->
    Pool = started(Config, 1, 0, []),
    Worker = ?SHIM:checkout(Pool),
    _ = erase('$sockpool_poolboy_held'),
    true = erlang:garbage_collect(),
    wait_until(fun() -> not is_process_alive(Worker) end),
    ?assertNotEqual(Worker, ?SHIM:checkout(Pool, true, 30000)).

worker_supervisor(_Config) ->
    [?assertEqual({error, {bad_option, worker_supervisor, some_sup}},
                  ?SHIM:start_link([{worker_supervisor, some_sup}, {size, 1} | Module], []))
     || Module <- [[], [{worker_module, sockpool_poolboy_worker}]]].

bad_options(_Config) ->
    ?assertEqual({error, {bad_option, worker_module, undefined}}, ?SHIM:start_link([{size, 1}], [])),
    ?assertEqual({error, {bad_option, worker_module, undefined}}, ?SHIM:start([{worker_module, "module"}])),
    Worker = {worker_module, sockpool_poolboy_worker},
    ?assertEqual({error, {bad_option, size, -1}}, ?SHIM:start_link([Worker, {size, -1}], [])),
    ?assertEqual({error, {bad_option, max_overflow, -1}}, ?SHIM:start_link([Worker, {max_overflow, -1}], [])),
    ?assertMatch({error, {bad_option, _, 0}}, ?SHIM:start_link([Worker, {size, 0}, {max_overflow, 0}], [])).

ends_under_a_waiter(Config) ->
    Pool = started(Config, 1, 0, []),
    ended(Pool, fun() -> ?SHIM:stop(Pool) end, shutdown).

crash_under_a_waiter(Config) ->
    Pool = started(Config, 1, 0, []),
    true = unlink(whereis(Pool)),
    ended(Pool, fun() -> exit(whereis(Pool), kill) end, noproc).

ended(Pool, End, Reason) ->
    _ = ?SHIM:checkout(Pool),
    Waiter = start(fun() -> catch ?SHIM:checkout(Pool, true, infinity) end),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 1 end),
    _ = End(),
    ?assertMatch({'EXIT', {Reason, {gen_server, call, [Pool | _]}}}, await(Waiter)).

%% One that traps exits has the time for its terminate/2.
stop_waits_for_workers(Config) ->
    Pool = started(Config, 3, 0, [{init, fun() -> _ = process_flag(trap_exit, true), {ok, args} end}]),
    Workers = [?SHIM:checkout(Pool) || _ <- [1, 2, 3]],
    ok = ?SHIM:stop(Pool),
    ?assertEqual([], [Worker || Worker <- Workers, is_process_alive(Worker)]),
    ?assertEqual(started(Config, 1, 0, []), Pool).

%% Each has the one that was checked in on its own scheduler, whichever was the last.
idle_of_the_scheduler(Config) ->
    case erlang:system_info(schedulers_online) of
        1 ->
            {skip, "one scheduler"};
        _ ->
            Pool = started(Config, 2, 0, []),
            Taken = fun() -> ?SHIM:transaction(Pool, fun(Worker) -> Worker end) end,
            [First, Second] = [?SHIM:checkout(Pool), ?SHIM:checkout(Pool)],
            ok = on_scheduler(1, fun() -> ?SHIM:checkin(Pool, First) end),
            ok = on_scheduler(2, fun() -> ?SHIM:checkin(Pool, Second) end),
            ?assertEqual([First, Second], [on_scheduler(Scheduler, Taken) || Scheduler <- [1, 2]])
    end.

undocumented_calls(Config) ->
    Pool = started(Config, 1, 0, []),
    [?assertEqual({error, unknown_call}, gen_server:call(Pool, Request))
     || Request <- [get_all_workers, get_avail_workers, get_all_monitors]],
    ?assertEqual({ready, 1, 0, 0}, ?SHIM:status(Pool)).

no_time(Config) ->
    Pool = started(Config, 1, 0, []),
    Worker = ?SHIM:checkout(Pool, true, 0),
    ?assertExit({timeout, _}, ?SHIM:checkout(Pool, true, 0)),
    ok = ?SHIM:checkin(Pool, Worker),
    ?assertEqual(Worker, ?SHIM:checkout(Pool, false, 0)).

started(Config, Size, Overflow, Args) ->
    Pool = ?config(pool, Config),
    {ok, _} = ?SHIM:start_link([{name, {local, Pool}}, {worker_module, sockpool_poolboy_worker}, {size, Size},
                                {max_overflow, Overflow}], Args),
    Pool.
