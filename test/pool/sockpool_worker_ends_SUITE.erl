%%% Pools of processes: how their workers end with them, in order or not, and that nothing is left of thousands that
%%% were killed. What a check-out costs, and what a worker costs.
-module(sockpool_worker_ends_SUITE).
-behaviour(supervisor).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([init/1]).
-export([stop_is_orderly/1, stop_kills_the_stubborn/1, stop_waits_as_long_as_it_takes/1, stop_of_leased_ones/1,
         stop_while_starts_hang/1, own_supervisor/1, own_supervisor_waits/1, pool_process_killed/1,
         death_of_one_harms_no_other/1, seen_by_observer/1]).
-export([application_stopped/1, pool_and_janitor_killed/1, supervisor_killed/1]).
-export([nothing_is_sent/1, killed_at_random/1, memory/1]).
%% Run in the other VM.
-export([memory_of/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, elapsed_ms/1]).
-import(sockpool_test_worker, [opts/1, opts/2, await_dead/1, killed/1, started/2, settled_pool/2, taken/1, workers/2,
                               owner/1, drain/0]).

-define(OWNERS, 10000).
-define(KILLED_WORKERS, 2000).
-define(AT_ONCE, 200).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, side_by_side}, {group, alone}].

groups() ->
    [{side_by_side, [parallel],
      [stop_is_orderly, stop_kills_the_stubborn, stop_waits_as_long_as_it_takes, stop_of_leased_ones,
       stop_while_starts_hang, own_supervisor, own_supervisor_waits, pool_process_killed,
       death_of_one_harms_no_other]},
     {alone, [],
      [seen_by_observer, application_stopped, pool_and_janitor_killed, supervisor_killed, nothing_is_sent, killed_at_random, memory]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [{pool, Case} | Config].

end_per_testcase(_Case, Config) -> sockpool:stop_pool(?config(pool, Config)).

init(Specs) -> {ok, {#{strategy => one_for_one, intensity => 1000, period => 1}, Specs}}.

pool_process(Pool) -> sockpool_nif:pool_controller(sockpool_pool:find(Pool)).

%% `{worker, terminated, Pid, Reason}' of all of these is there already.
assert_terminated(Pids, Reason) ->
    [receive {worker, terminated, Pid, Told} -> ?assertEqual(Reason, Told) after 0 -> error({not_terminated, Pid}) end
     || Pid <- Pids].

assert_all_dead(Pids) -> ?assertEqual([], [Pid || Pid <- Pids, is_process_alive(Pid)]).

gated() ->
    Test = self(),
    fun() -> Test ! {starting, self()}, receive never -> ok end end.

%%% In order.

%% Those that trap exits run their terminate; when the stop returns, all are gone.
stop_is_orderly(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true, slow => 50}, #{size => 20})),
    Workers = workers(Pool, 20),
    {Ms, ok} = elapsed_ms(fun() -> sockpool:stop_pool(Pool) end),
    assert_terminated(Workers, shutdown),
    assert_all_dead(Workers),
    %% All at once.
    ?assert(Ms < 20 * 50, Ms),
    _ = settled_pool(Config, opts(#{}, #{size => 20})),
    Others = workers(Pool, 20),
    ok = sockpool:stop_pool(Pool),
    assert_all_dead(Others).

stop_kills_the_stubborn(Config) ->
    [begin
         Pool = settled_pool(Config, opts(#{stubborn => true}, #{size => 3, worker_shutdown => WithinMs})),
         Workers = workers(Pool, 3),
         {Ms, ok} = elapsed_ms(fun() -> sockpool:stop_pool(Pool) end),
         assert_all_dead(Workers),
         ?assert(Ms >= WithinMs - 1, {WithinMs, Ms})
     end || WithinMs <- [0, 120]].

stop_waits_as_long_as_it_takes(Config) ->
    Pool = settled_pool(Config, opts(#{stubborn => true}, #{worker_shutdown => infinity})),
    [Worker] = workers(Pool, 1),
    Stop = start(fun() -> sockpool:stop_pool(Pool) end),
    wait_until(fun() -> sockpool:checkout(Pool, 0) =/= {error, full} end),
    receive after 100 -> ok end,
    ?assert(is_process_alive(Worker)),
    ?assert(is_process_alive(element(1, Stop))),
    Worker ! crash,
    ok = await(Stop).

stop_of_leased_ones(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true}, #{size => 2})),
    {Conn, Worker} = taken(Pool),
    {Owner, Other} = owner(Pool),
    Waiter = start(fun() -> sockpool:checkout(Pool, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = sockpool:stop_pool(Pool),
    assert_terminated([Worker, Other], shutdown),
    ?assertEqual({error, draining}, await(Waiter)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, sockpool:worker(Conn)),
    killed(Owner).

%% One that traps exits, too.
stop_while_starts_hang(Config) ->
    [begin
         Pool = started(Config, opts(#{init => gated(), trap => Trap}, #{size => 3, worker_shutdown => 60})),
         Starting = [receive {starting, Pid} -> Pid end || _ <- [1, 2, 3]],
         ok = sockpool:stop_pool(Pool),
         assert_all_dead(Starting)
     end || Trap <- [false, true]],
    %% In the start function itself, and in the one of the pool.
    Hang = gated(),
    [begin
         Pool = started(Config, Opts),
         Hanging = receive {starting, Pid} -> Pid end,
         ok = sockpool:stop_pool(Pool),
         assert_all_dead([Hanging])
     end || Opts <- [(opts(#{}))#{worker := Hang}, opts(#{}, #{init => fun(_) -> Hang() end})]],
    ok = drain().

own_supervisor(Config) ->
    Pool = ?config(pool, Config),
    {ok, Supervisor} = supervisor:start_link(?MODULE, [sockpool:child_spec(Pool, opts(#{trap => true}, #{size => 3}))]),
    _ = settled(Pool),
    Workers = workers(Pool, 3),
    %% A crash of the pool is the supervisor's; that one starts it again.
    killed(pool_process(Pool)),
    wait_until(fun() -> is_pid(pool_process(Pool)) end),
    _ = settled(Pool),
    [_ = await_dead(Worker) || Worker <- Workers],
    ok = drain(),
    Now = workers(Pool, 3),
    true = unlink(Supervisor),
    true = exit(Supervisor, shutdown),
    shutdown = await_dead(Supervisor),
    assert_terminated(Now, shutdown).

%% The supervisor gives it as much time as its workers have, and some.
own_supervisor_waits(Config) ->
    Pool = ?config(pool, Config),
    Opts = opts(#{stubborn => true}, #{worker_shutdown => 150}),
    ?assertMatch(#{shutdown := Ms} when Ms > 150, sockpool:child_spec(Pool, Opts)),
    ?assertMatch(#{shutdown := infinity}, sockpool:child_spec(Pool, Opts#{worker_shutdown := infinity})),
    {ok, Supervisor} = supervisor:start_link(?MODULE, [sockpool:child_spec(Pool, Opts)]),
    _ = settled(Pool),
    [Worker] = workers(Pool, 1),
    true = unlink(Supervisor),
    {Ms, shutdown} = elapsed_ms(fun() -> true = exit(Supervisor, shutdown), await_dead(Supervisor) end),
    ?assert(Ms >= 149, Ms),
    assert_all_dead([Worker]).

%%% Without a word.

%% Of whatever kind they are, and those that are still starting.
pool_process_killed(Config) ->
    Pool = ?config(pool, Config),
    [begin
         Before = started(Config, opts(What#{init => one_hangs(2)}, #{size => 3, worker_shutdown => 40})),
         Hangs = receive {starting, Pid} -> Pid end,
         wait_until(fun() -> stat(Before, idle) =:= 2 end),
         [One, Two] = workers(Pool, 2),
         {Conn, _} = taken(Pool),
         killed(pool_process(Pool)),
         [_ = await_dead(Worker) || Worker <- [One, Two, Hangs]],
         ?assertEqual({error, closed}, sockpool:checkin(Conn)),
         wait_until(fun() -> is_pid(pool_process(Pool)) end),
         _ = settled(Pool),
         ?assertEqual([], [Worker || Worker <- workers(Pool, 3), lists:member(Worker, [One, Two])]),
         ok = sockpool:stop_pool(Pool),
         ok = drain()
     end || What <- [#{}, #{trap => true}]],
    _ = settled_pool(Config, opts(#{stubborn => true}, #{size => 2, worker_shutdown => 40})),
    Stubborn = workers(Pool, 2),
    Monitors = [monitor(process, Worker) || Worker <- Stubborn],
    killed(pool_process(Pool)),
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(killed, Reason) end || Monitor <- Monitors].

%% The init of that one.
one_hangs(Number) ->
    Begun = atomics:new(1, []),
    Hang = gated(),
    fun() ->
            case atomics:add_get(Begun, 1, 1) of
                Number -> Hang();
                _ -> ok
            end
    end.

death_of_one_harms_no_other(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 3})),
    Process = pool_process(Pool),
    [One, Two, Three] = workers(Pool, 3),
    [begin
         true = exit(Pid, Reason),
         _ = await_dead(Pid)
     end || {Pid, Reason} <- [{One, kill}, {Two, some_reason}]],
    _ = settled(Pool),
    ?assertEqual(Process, pool_process(Pool)),
    ?assert(is_process_alive(Three)).

%% As the application's tree is found there: by the links from one to the next.
seen_by_observer(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 5})),
    Workers = lists:sort(workers(Pool, 5)),
    wait_until(fun() ->
                       {links, Links} = process_info(pool_process(Pool), links),
                       lists:sort(Links) -- [whereis(sockpool_sup)] =:= Workers orelse Links
               end),
    ?assertMatch([{undefined, _, worker, _} | _], supervisor:which_children(pool_process(Pool))),
    ?assertEqual(Workers, lists:sort([Pid || {_, Pid, _, _} <- supervisor:which_children(pool_process(Pool))])),
    ?assertEqual([{specs, 1}, {active, 5}, {supervisors, 0}, {workers, 5}],
                 supervisor:count_children(pool_process(Pool))),
    case code:ensure_loaded(appmon_info) of
        {module, _} -> below(pool_process(Pool), Workers);
        {error, _} -> {comment, "without runtime_tools"}
    end.

%% Links to those whose own idea is that their parent, which has started them, was another one are the weaker ones.
below(Process, Workers) ->
    {ok, Server} = appmon_info:start_link(node(), self(), [{timeout, 10}]),
    Links = links_seen(Server),
    Parent = pid_to_list(Process),
    ?assertEqual([], [pid_to_list(Worker) || Worker <- Workers] -- [To || {From, To} <- Links, From =:= Parent]),
    true = unlink(Server),
    killed(Server).

%% It says nothing where a process ends while it looks.
links_seen(Server) ->
    _ = appmon_info:app(Server, sockpool, true, [{timeout, at_most_once}]),
    receive
        {delivery, Server, app, sockpool, {_Root, _Names, Strong, Weak}} -> Strong ++ Weak
    after 500 ->
        links_seen(Server)
    end.

application_stopped(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true}, #{size => 5})),
    Workers = workers(Pool, 5),
    ok = application:stop(sockpool),
    assert_terminated(Workers, shutdown),
    assert_all_dead(Workers).

two_and_one_that_hangs(Config, What) ->
    Pool = started(Config, opts(What#{init => one_hangs(2)}, #{size => 3, worker_shutdown => 40})),
    Hangs = receive {starting, Pid} -> Pid end,
    wait_until(fun() -> stat(Pool, idle) =:= 2 end),
    [Hangs | workers(Pool, 2)].

%% Nobody is left who has them end: what is linked ends by that, and one that traps exits by the message that its
%% parent's end would be. Later there is a janitor, or the pool, again.
pool_and_janitor_killed(Config) ->
    Pool = ?config(pool, Config),
    [begin
         All = two_and_one_that_hangs(Config, What),
         Victims = [pool_process(Pool), whereis(sockpool_janitor)],
         [true = exit(Victim, kill) || Victim <- Order(Victims)],
         [_ = await_dead(Worker) || Worker <- All],
         wait_until(fun() -> is_pid(pool_process(Pool)) andalso is_pid(whereis(sockpool_janitor)) end),
         _ = settled(Pool),
         ok = sockpool:stop_pool(Pool),
         ok = drain()
     end || What <- [#{}, #{trap => true}], Order <- [fun(Both) -> Both end, fun lists:reverse/1]].

supervisor_killed(Config) ->
    [begin
         All = two_and_one_that_hangs(Config, What),
         killed(whereis(sockpool_sup)),
         [_ = await_dead(Worker) || Worker <- All],
         wait_until(fun() -> not lists:keymember(sockpool, 1, application:which_applications()) end),
         {ok, _} = application:ensure_all_started(sockpool),
         ok = drain()
     end || What <- [#{}, #{trap => true}]].

%%% What it costs.

nothing_is_sent(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 10})),
    Test = self(),
    Caller = spawn_link(fun() -> receive go -> Test ! {done, use(Pool, 100)} end, receive never -> ok end end),
    _ = erlang:trace(Caller, true, [send, 'receive', procs]),
    Caller ! go,
    Used = receive {done, Result} -> Result end,
    ?assertEqual([{monitors, []}, {links, [Test]}, {message_queue_len, 0}],
                 process_info(Caller, [monitors, links, message_queue_len])),
    ?assertEqual([{monitors, []}, {links, [Test]}, {message_queue_len, 0}], Used),
    _ = erlang:trace(Caller, false, [all]),
    Delivered = erlang:trace_delivered(Caller),
    receive {trace_delivered, Caller, Delivered} -> ok end,
    ?assertEqual([{'receive', go}, {send, done}], traced(Caller)),
    true = unlink(Caller),
    killed(Caller).

traced(Caller) ->
    receive
        {trace, Caller, 'receive', Message} -> [{'receive', Message} | traced(Caller)];
        {trace, Caller, send, Message, _To} -> [{send, element(1, Message)} | traced(Caller)];
        {trace, Caller, What, Other} -> [{What, Other} | traced(Caller)]
    after 0 ->
        []
    end.

use(Pool, Times) ->
    {ok, Conn} = sockpool:checkout(Pool),
    true = is_pid(sockpool:worker(Conn)),
    Now = process_info(self(), [monitors, links, message_queue_len]),
    ok = sockpool:checkin(Conn),
    true = sockpool:transaction(Pool, fun is_pid/1),
    case Times of 1 -> Now; _ -> use(Pool, Times - 1) end.

%% 10,000 owners and 2,000 workers.
killed_at_random(Config) ->
    Pool = started(Config, opts(#{}, #{worker => {sockpool_test_worker, #{}}, size => 50, max_overflow => 20,
                                       overflow_ttl => 20, connect_parallelism => 100})),
    _ = settled(Pool),
    ok = kill_many(Pool, ?OWNERS div 2, ?KILLED_WORKERS div 2),
    Before = left_over(Pool),
    ok = kill_many(Pool, ?OWNERS div 2, ?KILLED_WORKERS div 2),
    wait_until(fun() -> counts(left_over(Pool)) =:= counts(Before) orelse left_over(Pool) end),
    After = left_over(Pool),
    #{checkouts := Out, checkins := In, abandoned := Abandoned, idle := 50, leased := 0, total := 50} = Stats = settled(Pool),
    ?assertEqual({Out, Stats}, {In + Abandoned, Stats}),
    ct:pal("~0p~n~0p~n~0p", [Before, After, Stats]),
    %% The second half is of several thousand connections, and more leases: if each left as much as the smallest thing
    %% that it has, that were a million bytes.
    ?assert(maps:get(memory, After) - maps:get(memory, Before) < 600000, {Before, After}),
    ok = sockpool:stop_pool(Pool).

counts(LeftOver) -> maps:remove(memory, LeftOver).

left_over(Pool) ->
    _ = settled(Pool),
    Memory = outside() + erlang:memory(processes_used),
    Process = pool_process(Pool),
    [{links, Links}, {monitors, Monitors}, {monitored_by, By}] = process_info(Process, [links, monitors, monitored_by]),
    #{memory => Memory, processes => erlang:system_info(process_count),
      ets => length(ets:all()), links => length(Links), monitors => length(Monitors), monitored_by => length(By)}.

kill_many(Pool, Owners, Workers) ->
    Killer = start(fun() -> kill_workers(Pool, Workers) end),
    ok = kill_owners(Pool, Owners),
    await(Killer).

%% Any of those that there are, whoever has them.
kill_workers(_Pool, 0) ->
    ok;
kill_workers(Pool, Left) ->
    Sup = whereis(sockpool_sup),
    {links, Links} = process_info(pool_process(Pool), links),
    case [Pid || Pid <- Links, Pid =/= Sup, is_worker(Pid)] of
        [] ->
            erlang:yield(),
            kill_workers(Pool, Left);
        Pids ->
            Victim = lists:nth(rand:uniform(length(Pids)), Pids),
            _ = killed(Victim),
            receive after rand:uniform(2) - 1 -> ok end,
            kill_workers(Pool, Left - 1)
    end.

%% No connector.
is_worker(Pid) ->
    case process_info(Pid, dictionary) of
        {dictionary, Dictionary} -> lists:member({'$initial_call', {sockpool_test_worker, init, 1}}, Dictionary);
        undefined -> false
    end.

kill_owners(_Pool, 0) ->
    ok;
kill_owners(Pool, Left) ->
    Owners = [spawn_monitor(fun() -> use_for_ever(Pool) end) || _ <- lists:seq(1, min(Left, ?AT_ONCE))],
    [begin
         rand:uniform(20) =:= 1 andalso receive after 1 -> ok end,
         exit(Pid, kill)
     end || {Pid, _} <- Owners],
    [receive {'DOWN', Monitor, process, _, killed} -> ok end || {_, Monitor} <- Owners],
    kill_owners(Pool, Left - length(Owners)).

use_for_ever(Pool) ->
    _ = case rand:uniform(4) of
            1 ->
                sockpool:execute(Pool, fun(Pid) -> echoed(Pid) end, infinity);
            2 ->
                {ok, Conn} = sockpool:checkout(Pool, infinity),
                erlang:yield(),
                sockpool:checkin(Conn);
            3 ->
                catch sockpool:transaction(Pool, fun(_) -> receive after 1 -> error(oops) end end, infinity);
            4 ->
                sockpool:checkout(Pool, rand:uniform(3))
        end,
    use_for_ever(Pool).

%% Nobody else's answer.
echoed(Pid) ->
    Asked = make_ref(),
    try {echo, Asked} = gen_server:call(Pid, Asked), ok
    catch exit:_ -> gone
    end.

%% In a VM of its own, where nothing else grows or shrinks, against processes that are nobody's: all that is outside of
%% processes, as the resources; the pool's process; and by how much a worker is larger, as by its link and its monitor.
memory(_Config) ->
    {ok, Vm, _} = peer:start(#{connection => standard_io, wait_boot => 60000, args => ["-pa" | code:get_path()]}),
    [begin
         {Outside, Process, Larger} = Told = peer:call(Vm, ?MODULE, memory_of, [Count], 60000),
         Each = (Outside + Process) div Count + Larger,
         ct:pal("~b workers: ~b bytes each: ~0p", [Count, Each, Told]),
         ?assert(Each =< 1024, Told)
     end || Count <- [100, 10000]],
    peer:stop(Vm).

%% Of the second pool: what the first one makes for good is not its own.
-spec memory_of(pos_integer()) -> {Outside :: integer(), Process :: integer(), Larger :: integer()}.
memory_of(Count) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [First, Second] = [list_to_atom(lists:concat([memory_, Count, "_", N])) || N <- [1, 2]],
    _ = in_use(First, Count),
    Before = outside(),
    [Worker | _] = in_use(Second, Count),
    Between = outside(),
    [Bare | _] = [bare() || _ <- lists:seq(1, Count)],
    After = outside(),
    {(Between - Before) - (After - Between), bytes(pool_process(Second)), bytes(Worker) - bytes(Bare)}.

in_use(Name, Count) ->
    ok = sockpool:start_pool(Name, opts(#{}, #{worker => {sockpool_test_worker, #{}}, size => Count})),
    _ = settled(Name),
    workers(Name, Count).

%% Once it does not change any more.
outside() -> outside(0, 20).

outside(Last, Left) ->
    [erlang:garbage_collect(Pid) || _ <- [1, 2], Pid <- processes()],
    receive after 50 -> ok end,
    case erlang:memory(system) - erlang:memory(code) - erlang:memory(ets) - erlang:memory(atom) of
        Bytes when abs(Bytes - Last) < 2000; Left =:= 0 -> Bytes;
        Bytes -> outside(Bytes, Left - 1)
    end.

bytes(Pid) -> element(2, process_info(Pid, memory)).

bare() ->
    Test = self(),
    Starter = spawn(fun() ->
                            {ok, Pid} = sockpool_test_worker:start_link(#{}),
                            true = unlink(Pid),
                            Test ! {bare, self(), Pid}
                    end),
    receive {bare, Starter, Pid} -> Pid end.
