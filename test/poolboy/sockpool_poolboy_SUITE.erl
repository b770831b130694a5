%%% poolboy's API over pools of sockpool: each function, each form of a pool's name, exits, deaths. What differs from
%%% poolboy, line by line as in docs/poolboy.md, is in sockpool_poolboy_differs_SUITE; pools of other nodes are in
%%% sockpool_poolboy_remote_SUITE.
-module(sockpool_poolboy_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([exports/1, checkouts/1, transactions/1, specs/1, defaults/1, names/1, taken_names/1, names_again/1, pids/1,
         exits/1, pool_of_sockets/1, stopped_under_a_waiter/1, stops/1, supervised/1, started_not_linked/1,
         asked_while_it_starts/1]).
%% As a registry.
-export([register_name/2, whereis_name/1]).
-export([full_at_the_limit_only/1, one_place_for_two/1, owner_dies/1, owner_dies_with_a_copy/1, worker_dies/1,
         idle_worker_dies/1, checkin_by_another/1, checkin_twice/1, late_checkin_is_nobody_elses/1,
         checked_in_by_others_is_forgotten/1, waiters_in_turn/1, start_waits_for_workers/1, failed_start/1,
         nothing_in_the_dictionary/1, sends_nothing/1, many/1, same_as_poolboy/1]).

-import(sockpool_test_util, [wait_until/1, start/1, await/1, assert_no_messages/0]).

-define(SHIM, sockpool_poolboy).

suite() -> [{timetrap, {minutes, 5}}].

all() -> [{group, side_by_side}, names_again, many, same_as_poolboy].

groups() ->
    [{side_by_side, [parallel],
      [exports, checkouts, transactions, specs, defaults, names, taken_names, pids, exits, pool_of_sockets, stopped_under_a_waiter, stops,
       supervised, started_not_linked, asked_while_it_starts, full_at_the_limit_only, one_place_for_two, owner_dies, owner_dies_with_a_copy,
       worker_dies, idle_worker_dies, checkin_by_another, checkin_twice, late_checkin_is_nobody_elses,
       checked_in_by_others_is_forgotten, waiters_in_turn, start_waits_for_workers, failed_start,
       nothing_in_the_dictionary, sends_nothing]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, list_to_atom("poolboy_" ++ atom_to_list(Case))} | Config].

%% A case's process ends with its pool linked to it, and so does the pool.
end_per_testcase(_Case, _Config) -> ok.

%%% Functions.

%% All of poolboy's but those of gen_server, where that is there.
exports(_Config) ->
    Poolboys = case code:ensure_loaded(poolboy) of
                   {module, _} -> poolboy:module_info(exports);
                   {error, _} -> []
               end,
    Wanted = Poolboys -- [{F, A} || {F, A} <- poolboys_own()],
    {module, _} = code:ensure_loaded(?SHIM),
    ?assertEqual([], Wanted -- ?SHIM:module_info(exports)),
    ?assertEqual([], [{child_spec, 4}, {status_map, 1}] -- ?SHIM:module_info(exports)).

poolboys_own() ->
    [{init, 1}, {handle_call, 3}, {handle_cast, 2}, {handle_info, 2}, {terminate, 2}, {code_change, 3}].

checkouts(Config) ->
    Pool = started(Config, 2, 1),
    First = ?SHIM:checkout(Pool),
    Second = ?SHIM:checkout(Pool, false),
    Third = ?SHIM:checkout(Pool, true, infinity),
    ?assertEqual(3, length(lists:usort([First, Second, Third]))),
    ?assertEqual([args, args, args], [gen_server:call(Worker, any) || Worker <- [First, Second, Third]]),
    ?assertEqual({full, 0, 1, 3}, ?SHIM:status(Pool)),
    ?assertEqual(#{state => full, available => 0, overflow => 1, monitored => 3, waiting => 0}, ?SHIM:status_map(Pool)),
    ?assertEqual(full, ?SHIM:checkout(Pool, false)),
    ?assertEqual(full, ?SHIM:checkout(Pool, false, 0)),
    ?assertEqual([ok, ok, ok], [?SHIM:checkin(Pool, Worker) || Worker <- [First, Second, Third]]),
    settled(Pool, {ready, 2, 0, 0}).

transactions(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:transaction(Pool, fun(W) -> W end),
    ?assertEqual(full, ?SHIM:transaction(Pool, fun(_) -> ?SHIM:checkout(Pool, false) end, 1000)),
    ?assertThrow(up, ?SHIM:transaction(Pool, fun(_) -> throw(up) end)),
    ?assertError(up, ?SHIM:transaction(Pool, fun(_) -> error(up) end)),
    ?assertExit(up, ?SHIM:transaction(Pool, fun(_) -> exit(up) end)),
    %% The same one all the time; and who checks in itself has done no harm.
    ?assertEqual(Worker, ?SHIM:transaction(Pool, fun(W) -> ok = ?SHIM:checkin(Pool, W), W end)),
    settled(Pool, {ready, 1, 0, 0}).

specs(_Config) ->
    Start = {?SHIM, start_link, [[{size, 1}], []]},
    ?assertEqual({id, Start, permanent, 5000, worker, [?SHIM]}, ?SHIM:child_spec(id, [{size, 1}])),
    ?assertEqual({id, setelement(3, Start, [[{size, 1}], x]), permanent, 5000, worker, [?SHIM]},
                 ?SHIM:child_spec(id, [{size, 1}], x)),
    ?assertEqual(?SHIM:child_spec(id, [], x), ?SHIM:child_spec(id, [], x, tuple)),
    ?assertEqual(#{id => id, start => Start, restart => permanent, shutdown => 5000, type => worker, modules => [?SHIM]},
                 ?SHIM:child_spec(id, [{size, 1}], [], map)),
    ok = supervisor:check_childspecs([?SHIM:child_spec(id, [], [])]),
    ok = supervisor:check_childspecs([?SHIM:child_spec(id, [], [], map)]).

%% What is not there, or has the wrong type, is poolboy's default. Who gives no arguments for workers gives them the pool's.
defaults(_Config) ->
    Args = [{worker_module, sockpool_poolboy_worker}, {size, many}, {max_overflow, "10"}, {strategy, any}, {other, 1},
            {type, array}],
    {ok, Pid} = ?SHIM:start_link(Args),
    ?assertEqual({ready, 5, 0, 0}, ?SHIM:status(Pid)),
    Workers = [?SHIM:checkout(Pid, false) || _ <- lists:seq(1, 15)],
    ?assertEqual(full, ?SHIM:checkout(Pid, false)),
    ?assertEqual({full, 0, 10, 15}, ?SHIM:status(Pid)),
    ?assertEqual(Args, gen_server:call(hd(Workers), any)),
    {ok, Other} = ?SHIM:start(Args),
    ok = ?SHIM:stop(Other).

%%% Names.

names(Config) ->
    Name = ?config(pool, Config),
    [begin
         {ok, Pid} = ?SHIM:start_link([{name, As} | args(1, 0)], args),
         ?assertEqual([Pid || _ <- Forms], [whereabouts(Form) || Form <- Forms]),
         [begin
              Worker = ?SHIM:checkout(Form),
              ?assertEqual(full, ?SHIM:checkout(Form, false)),
              ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Form)),
              ok = ?SHIM:checkin(Form, Worker),
              %% By who has not checked it out.
              Worker = ?SHIM:checkout(Form),
              ok = elsewhere(fun() -> ?SHIM:checkin(Form, Worker) end),
              ?assertEqual({ready, 1, 0, 0}, ?SHIM:status(Form)),
              ?assertEqual(Worker, ?SHIM:transaction(Form, fun(W) -> W end))
          end || Form <- [Pid | Forms]],
         ok = ?SHIM:stop(hd(Forms)),
         [?assertExit({noproc, {gen_server, call, [Form, status]}}, ?SHIM:status(Form)) || Form <- [Pid | Forms]]
     end || {As, Forms} <- [{{local, Name}, [Name, {local, Name}, {Name, node()}]},
                            {{global, {Name, x}}, [{global, {Name, x}}]},
                            {{via, global, {Name, y}}, [{via, global, {Name, y}}]}]].

whereabouts(Name) when is_atom(Name) -> whereis(Name);
whereabouts({local, Name}) -> whereis(Name);
whereabouts({global, Name}) -> global:whereis_name(Name);
whereabouts({via, Module, Name}) -> Module:whereis_name(Name);
whereabouts({Name, _Node}) -> whereis(Name).

taken_names(Config) ->
    Name = ?config(pool, Config),
    [begin
         {ok, Pid} = ?SHIM:start_link([{name, As} | args(1, 0)], args),
         ?assertEqual({error, {already_started, Pid}}, ?SHIM:start_link([{name, As} | args(1, 0)], args)),
         ?assertEqual({error, {already_started, Pid}}, ?SHIM:start([{name, As} | args(1, 0)], args)),
         ok = ?SHIM:stop(Pid)
     end || As <- [{local, Name}, {global, Name}, {via, global, {Name, z}}]],
    [?assertError(badarg, ?SHIM:start_link([{name, As} | args(1, 0)], args)) || As <- [Name, {other, Name}, "name"]],
    assert_no_messages().

%% A pool without a local name has an atom of ours, which the next one has again. What is known of the process of an
%% earlier one is not taken for the later one's.
names_again(_Config) ->
    Lives = [begin
                 {ok, Pid} = ?SHIM:start_link(args(1, 0), args),
                 {registered_name, Name} = process_info(Pid, registered_name),
                 Worker = ?SHIM:checkout(Pid),
                 _ = case Turn rem 2 of
                         0 -> ok = ?SHIM:stop(Pid);
                         1 -> crash(Pid)
                     end,
                 ?assertExit({noproc, _}, ?SHIM:status(Pid)),
                 {Name, Worker}
             end || Turn <- lists:seq(1, 40)],
    ?assertEqual([sockpool_poolboy_1], lists:usort([Name || {Name, _} <- Lives])),
    Known = get('$sockpool_poolboy_known'),
    {ok, First} = ?SHIM:start_link(args(1, 0), args),
    [?assertExit({noproc, _}, ?SHIM:status(Pid)) || Pid <- maps:keys(Known)],
    ?assert(map_size(Known) > 1),
    {ok, Second} = ?SHIM:start_link([{name, {global, names_again}} | args(1, 0)], args),
    ?assertEqual([{registered_name, sockpool_poolboy_1}, {registered_name, sockpool_poolboy_2}],
                 [process_info(Pid, registered_name) || Pid <- [First, Second]]),
    [?assertExit({noproc, _}, ?SHIM:checkout(Pid)) || Pid <- [self(), dead()]],
    [ok = ?SHIM:stop(Pid) || Pid <- [First, Second]].

%% A user of many pools forgets those whose processes have gone.
pids(_Config) ->
    Pids = [begin
                {ok, Pid} = ?SHIM:start_link(args(1, 0), args),
                ok = ?SHIM:transaction(Pid, fun(_) -> ok end),
                Pid
            end || _ <- lists:seq(1, 40)],
    {dictionary, Kept} = process_info(self(), dictionary),
    [Known] = [Map || {'$sockpool_poolboy_known', Map} <- Kept],
    ?assert(map_size(Known) =< 16),
    [ok = ?SHIM:transaction(Pid, fun(_) -> ok end) || Pid <- Pids ++ Pids],
    [ok = ?SHIM:stop(Pid) || Pid <- Pids].

%%% Exits.

exits(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:checkout(Pool),
    ?assertExit({timeout, {gen_server, call, [Pool, {checkout, _, true}, 10]}}, ?SHIM:checkout(Pool, true, 10)),
    ?assertExit({timeout, {gen_server, call, [Pool, {checkout, _, true}, 0]}}, ?SHIM:checkout(Pool, true, 0)),
    ?assertExit({timeout, {gen_server, call, [Pool, {checkout, _, true}, 10]}},
                ?SHIM:transaction(Pool, fun(_) -> never end, 10)),
    [?assertExit({timeout_value, {gen_server, call, [Pool, {checkout, _, Block}, Timeout]}},
                 ?SHIM:checkout(Pool, Block, Timeout)) || Block <- [true, false], Timeout <- [-1, soon, 1.5, 1 bsl 32]],
    ok = ?SHIM:checkin(Pool, Worker),
    [begin
         ?assertExit({noproc, {gen_server, call, [None, {checkout, _, true}, 5000]}}, ?SHIM:checkout(None)),
         ?assertExit({noproc, {gen_server, call, [None, {checkout, _, false}, 5000]}}, ?SHIM:checkout(None, false)),
         ?assertExit({noproc, {gen_server, call, [None, {checkout, _, true}, 7]}},
                     ?SHIM:transaction(None, fun(_) -> never end, 7)),
         ?assertExit({noproc, {gen_server, call, [None, status]}}, ?SHIM:status(None)),
         ?assertExit({noproc, {gen_server, call, [None, status_map]}}, ?SHIM:status_map(None)),
         ?assertExit({noproc, {gen_server, call, [None, stop]}}, ?SHIM:stop(None)),
         ?assertEqual(ok, ?SHIM:checkin(None, Worker))
     end || None <- [no_such_pool, {local, no_such_pool}, {no_such_pool, node()}, {global, no_such_pool},
                     {via, global, no_such_pool}, dead()]],
    ?assertError(function_clause, ?SHIM:checkin(Pool, no_pid)),
    assert_no_messages().

%% Is none of ours, and loses nothing.
pool_of_sockets(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (sockpool_test_server:target(sockpool_test_server:start()))#{size => 1}),
    [?assertExit({noproc, {gen_server, call, [Pool, {checkout, _, Block}, 5000]}}, ?SHIM:checkout(Pool, Block))
     || Block <- [true, false, true]],
    ?assertEqual(ok, ?SHIM:checkin(Pool, self())),
    ?assertEqual(0, sockpool_test_util:stat(Pool, leased)),
    ?assertMatch({error, {already_started, _}}, ?SHIM:start([{name, {local, Pool}} | args(1, 0)], args)),
    ?assertEqual(undefined, whereis(Pool)),
    ok = sockpool:stop_pool(Pool).

stopped_under_a_waiter(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:checkout(Pool),
    Waiting = [start(fun() -> catch ?SHIM:checkout(Pool, true, infinity) end) || _ <- [1, 2]],
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 2 end),
    ok = ?SHIM:stop(Pool),
    [?assertMatch({'EXIT', {shutdown, {gen_server, call, [Pool, {checkout, _, true}, infinity]}}}, await(Waiter))
     || Waiter <- Waiting],
    ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
    ?assertNot(is_process_alive(Worker)).

stops(Config) ->
    Pool = started(Config, 3, 0),
    Pid = whereis(Pool),
    Workers = [?SHIM:checkout(Pool) || _ <- [1, 2, 3]],
    Monitor = monitor(process, Pid),
    ok = ?SHIM:stop(Pool),
    receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason) end,
    ?assertEqual([false, false, false], [is_process_alive(Worker) || Worker <- Workers]),
    ?assertEqual(undefined, whereis(Pool)).

supervised(Config) ->
    Pool = ?config(pool, Config),
    Spec = ?SHIM:child_spec(Pool, [{name, {local, Pool}} | args(2, 0)], args),
    {ok, Sup} = supervisor:start_link(sockpool_poolboy_sup, [Spec]),
    First = whereis(Pool),
    ?assertMatch([{Pool, First, worker, [?SHIM]}], supervisor:which_children(Sup)),
    Worker = ?SHIM:checkout(Pool),
    %% A crash and, of a permanent child, a stop: there is the next one.
    true = exit(First, kill),
    wait_until(fun() -> is_pid(whereis(Pool)) andalso whereis(Pool) =/= First end),
    wait_until(fun() -> not is_process_alive(Worker) end),
    settled(Pool, {ready, 2, 0, 0}),
    ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
    Second = whereis(Pool),
    ok = ?SHIM:stop(Pool),
    wait_until(fun() -> is_pid(whereis(Pool)) andalso whereis(Pool) =/= Second end),
    settled(Pool, {ready, 2, 0, 0}),
    ok = supervisor:terminate_child(Sup, Pool),
    ?assertExit({noproc, _}, ?SHIM:checkout(Pool)),
    true = unlink(Sup),
    exit(Sup, shutdown).

%% `start' outlives who has called it, `start_link' does not.
started_not_linked(_Config) ->
    [Alone, Linked] =
        [elsewhere(fun() -> {ok, Pid} = ?SHIM:Start(args(1, 0), args), Pid end) || Start <- [start, start_link]],
    wait_until(fun() -> not is_process_alive(Linked) end),
    ?assertEqual({ready, 1, 0, 0}, ?SHIM:status(Alone)),
    ok = ?SHIM:stop(Alone).

%% Its process has the name already and the pool is not open yet: who asks waits for that, as for poolboy's.
asked_while_it_starts(Config) ->
    Pool = {via, ?MODULE, ?config(pool, Config)},
    Ask = fun(Fun) -> spawn_monitor(fun() -> exit({returned, catch Fun()}) end) end,
    {Starter, _} = Ask(fun() -> {ok, Pid} = ?SHIM:start([{name, Pool} | args(1, 0)], args), Pid end),
    wait_until(fun() -> is_pid(whereabouts(Pool)) end),
    ?assertExit({timeout, _}, ?SHIM:checkout(Pool, true, 0)),
    ?assertExit({timeout, _}, ?SHIM:checkout(whereabouts(Pool), false, 10)),
    Askers = [Ask(Fun) || Fun <- [fun() -> ?SHIM:status(Pool) end, fun() -> ?SHIM:transaction(Pool, fun is_pid/1) end,
                                  fun() -> ?SHIM:transaction(whereabouts(Pool), fun is_pid/1) end]],
    [wait_until(fun() -> process_info(Asker, status) =:= {status, waiting} end) || {Asker, _} <- Askers],
    whereabouts(Pool) ! register,
    receive {'DOWN', _, process, Starter, {returned, Pid}} -> ?assertEqual(Pid, whereabouts(Pool)) end,
    %% Its worker may be starting, or in another's hands.
    [{Status, _, 0, _}, true, true] =
        [receive {'DOWN', Monitor, process, Asker, {returned, Answer}} -> Answer end || {Asker, Monitor} <- Askers],
    ?assert(lists:member(Status, [ready, full])),
    ok = ?SHIM:stop(Pool).

register_name(Name, Pid) ->
    ok = persistent_term:put({?MODULE, Name}, Pid),
    receive register -> yes end.

whereis_name(Name) -> persistent_term:get({?MODULE, Name}, undefined).

%%% Full, and waiting.

%% Where a worker has to be started that one is waited for, as poolboy starts it.
full_at_the_limit_only(Config) ->
    Gate = gate(),
    Pool = started(Config, 1, 2, fun() -> pass(Gate) end, args),
    _ = ?SHIM:checkout(Pool, false),
    ok = shut(Gate),
    Test = self(),
    Takers = [start(fun() -> Test ! {has, ?SHIM:checkout(Pool, false)}, receive done -> ok end end) || _ <- [1, 2]],
    wait_until(fun() -> waiting_at(Gate) =:= 2 end),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 2 end),
    %% All places are somebody's.
    ?assertEqual(full, ?SHIM:checkout(Pool, false)),
    ok = open(Gate),
    %% Both at once: one that is given back would be the other's.
    Workers = [receive {has, Worker} -> Worker end || _ <- Takers],
    ?assertEqual(2, length(lists:usort(Workers))),
    [begin Pid ! done, ok = await(Taker) end || {Pid, _, _} = Taker <- Takers],
    %% The time is for a start, too.
    ok = shut(Gate),
    wait_until(fun() -> ?SHIM:status(Pool) =:= {overflow, 0, 0, 1} end),
    ?assertExit({timeout, _}, ?SHIM:checkout(Pool, false, 20)),
    ok = open(Gate).

%% Of those who ask at once as many get one as there are places; the others hear at once that it is full.
one_place_for_two(Config) ->
    Gate = gate(),
    Pool = started(Config, 0, 1, fun() -> pass(Gate) end, args),
    ok = shut(Gate),
    Askers = [start(fun() -> ?SHIM:checkout(Pool, false) end) || _ <- lists:seq(1, 20)],
    wait_until(fun() -> length([1 || {Pid, _, _} <- Askers, not is_process_alive(Pid)]) =:= 19 end),
    ok = open(Gate),
    Answers = [await(Asker) || Asker <- Askers],
    ?assertMatch([_], [Pid || Pid <- Answers, is_pid(Pid)]),
    ?assertEqual(19, length([full || full <- Answers])).

waiters_in_turn(Config) ->
    Pool = started(Config, 1, 0),
    Self = self(),
    Worker = ?SHIM:checkout(Pool),
    [begin
         _ = spawn_link(fun() -> ?SHIM:transaction(Pool, fun(W) -> Self ! {Number, W} end, infinity) end),
         wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= Number end)
     end || Number <- [1, 2, 3]],
    ok = ?SHIM:checkin(Pool, Worker),
    ?assertEqual([{1, Worker}, {2, Worker}, {3, Worker}], [receive Told -> Told end || _ <- [1, 2, 3]]).

%%% Deaths.

owner_dies(Config) ->
    Pool = started(Config, 1, 0),
    Worker = elsewhere(fun() -> ?SHIM:checkout(Pool) end),
    %% Not closed: the next one's, without a wait for a sweep.
    ?assertEqual(Worker, ?SHIM:checkout(Pool, true, 5000)),
    ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Pool)).

%% Of its dictionary, as somebody has who looks at processes.
owner_dies_with_a_copy(Config) ->
    Pool = started(Config, 1, 0),
    Self = self(),
    Owner = spawn(fun() -> Self ! ?SHIM:checkout(Pool), receive never -> ok end end),
    Worker = receive Pid -> Pid end,
    {dictionary, Copy} = process_info(Owner, dictionary),
    true = exit(Owner, kill),
    ?assertEqual(Worker, ?SHIM:checkout(Pool, true, 5000)),
    ?assert(length(Copy) > 0).

worker_dies(Config) ->
    Pool = started(Config, 1, 1),
    Worker = ?SHIM:checkout(Pool),
    end_process(Worker),
    settled(Pool, {ready, 1, 0, 0}),
    ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
    settled(Pool, {ready, 1, 0, 0}),
    Next = ?SHIM:checkout(Pool),
    Extra = ?SHIM:checkout(Pool),
    %% Who waits gets another one for it.
    Waiter = start(fun() -> ?SHIM:checkout(Pool, true, infinity) end),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 1 end),
    end_process(Extra),
    ?assert(is_pid(await(Waiter))),
    settled(Pool, {overflow, 0, 0, 1}),
    ok = ?SHIM:checkin(Pool, Next),
    settled(Pool, {ready, 1, 0, 0}).

idle_worker_dies(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:transaction(Pool, fun(W) -> W end),
    end_process(Worker),
    Next = ?SHIM:checkout(Pool),
    ?assertNotEqual(Worker, Next),
    ?assertEqual(args, gen_server:call(Next, any)).

%%% Check-in by others.

checkin_by_another(Config) ->
    Pool = started(Config, 2, 1),
    Workers = [?SHIM:checkout(Pool) || _ <- [1, 2, 3]],
    Waiter = start(fun() -> ?SHIM:checkout(Pool, true, infinity) end),
    wait_until(fun() -> maps:get(waiting, ?SHIM:status_map(Pool)) =:= 1 end),
    ok = elsewhere(fun() -> ?SHIM:checkin(Pool, lists:last(Workers)) end),
    ?assertEqual(lists:last(Workers), await(Waiter)),
    [ok = elsewhere(fun() -> ?SHIM:checkin(Pool, Worker) end) || Worker <- Workers],
    settled(Pool, {ready, 2, 0, 0}),
    %% Its owner's comes too late, and is as good.
    [ok = ?SHIM:checkin(Pool, Worker) || Worker <- Workers],
    settled(Pool, {ready, 2, 0, 0}).

%% And of strangers.
checkin_twice(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:checkout(Pool),
    ?assertEqual([ok, ok, ok], [?SHIM:checkin(Pool, Pid) || Pid <- [Worker, Worker, self()]]),
    ?assertEqual(ok, ?SHIM:checkin(Pool, dead())),
    settled(Pool, {ready, 1, 0, 0}).

late_checkin_is_nobody_elses(Config) ->
    Pool = started(Config, 1, 0),
    Worker = ?SHIM:checkout(Pool),
    ok = elsewhere(fun() -> ?SHIM:checkin(Pool, Worker) end),
    Self = self(),
    Other = spawn_link(fun() ->
                               Self ! {self(), ?SHIM:checkout(Pool)},
                               receive done -> Self ! {self(), ?SHIM:checkin(Pool, Worker)} end
                       end),
    receive {Other, Worker} -> ok end,
    %% Of the check-out before, which is over.
    ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
    ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Pool)),
    Other ! done,
    receive {Other, ok} -> ok end,
    settled(Pool, {ready, 1, 0, 0}).

%% Who checks out and leaves the check-in to others keeps nothing of most of them.
checked_in_by_others_is_forgotten(Config) ->
    Pool = started(Config, 0, 1),
    [begin
         Worker = ?SHIM:checkout(Pool, true, infinity),
         ok = elsewhere(fun() -> ?SHIM:checkin(Pool, Worker) end)
     end || _ <- lists:seq(1, 200)],
    ?assert(map_size(get('$sockpool_poolboy_held')) =< 64).

nothing_in_the_dictionary(Config) ->
    Pool = started(Config, 2, 0),
    Before = get(),
    One = ?SHIM:checkout(Pool),
    Two = ?SHIM:checkout(Pool),
    ok = ?SHIM:checkin(Pool, One),
    ok = ?SHIM:checkin(Pool, Two),
    ?assertEqual(Before, get()).

%% Nor does it monitor anybody, or is told anything.
sends_nothing(Config) ->
    %% More than are needed: a tick may have one in its hands.
    Pool = started(Config, 20, 0),
    Pid = whereis(Pool),
    Self = self(),
    Use = fun() ->
                  [begin
                       Worker = ?SHIM:checkout(Name),
                       ok = ?SHIM:transaction(Name, fun(_) -> ok end),
                       ok = ?SHIM:checkin(Name, Worker)
                   end || Name <- [Pool, Pid, {local, Pool}, {Pool, node()}], _ <- lists:seq(1, 10)],
                  process_info(self(), [monitors, links])
          end,
    User = spawn_link(fun() -> _ = Use(), Self ! used, receive go -> ok end, Self ! Use(), receive never -> ok end end),
    %% It knows by then which pool that process is.
    receive used -> ok end,
    1 = erlang:trace(User, true, [send, 'receive', procs]),
    User ! go,
    ?assertEqual([{monitors, []}, {links, [Self]}], receive [_ | _] = Seen -> Seen end),
    1 = erlang:trace(User, false, [send, 'receive', procs]),
    Told = erlang:trace_delivered(User),
    receive {trace_delivered, User, Told} -> ok end,
    ?assertEqual([{'receive', go}, {send, Self}], traced()).

traced() ->
    receive
        {trace, _, 'receive', Message} -> [{'receive', Message} | traced()];
        {trace, _, send, _, To} -> [{send, To} | traced()];
        {trace, _, What, _} -> [What | traced()]
    after 0 -> []
    end.

%%% Starts.

start_waits_for_workers(Config) ->
    Pool = ?config(pool, Config),
    Gate = gate(),
    ok = shut(Gate),
    Init = fun() -> pass(Gate) end,
    Starter = start(fun() ->
                            {ok, Pid} = ?SHIM:start([{name, {local, Pool}} | args(3, 0)], [{init, Init}]),
                            {Pid, ?SHIM:status(Pool)}
                    end),
    wait_until(fun() -> waiting_at(Gate) =:= 3 end),
    %% It has its name, and who asks it is served when there is something.
    Early = start(fun() -> ?SHIM:transaction(Pool, fun(W) -> is_pid(W) end, infinity) end),
    {Starting, _, _} = Starter,
    ?assert(is_process_alive(Starting)),
    ok = open(Gate),
    {Pid, Status} = await(Starter),
    ?assert(lists:member(Status, [{ready, 3, 0, 0}, {ready, 2, 0, 1}])),
    ?assertEqual(true, await(Early)),
    ok = ?SHIM:stop(Pid).

%% The pool is there, and has workers when they can be had.
failed_start(Config) ->
    Pool = ?config(pool, Config),
    Works = atomics:new(1, []),
    Init = fun() -> case atomics:get(Works, 1) of 0 -> {stop, refused}; 1 -> {ok, args} end end,
    {ok, _} = ?SHIM:start_link([{name, {local, Pool}} | args(2, 0)], [{init, Init}]),
    ?assertEqual({full, 0, 0, 0}, ?SHIM:status(Pool)),
    ?assertExit({timeout, _}, ?SHIM:checkout(Pool, true, 10)),
    {ok, #{last_error := {worker, refused}}} = sockpool:stats(Pool),
    ok = atomics:put(Works, 1, 1),
    ?assert(is_pid(?SHIM:checkout(Pool, true, 30000))).

%%% Many.

%% Owners and workers are killed at random; afterwards everything is there.
many(Config) ->
    Pool = started(Config, 20, 20),
    Clients = [spawn(fun() -> use(Pool, Number) end) || Number <- lists:seq(1, 1000)],
    [begin
         true = exit(Client, kill),
         _ = Number rem 10 =:= 0 andalso
             case ?SHIM:checkout(Pool, true, infinity) of
                 Worker -> true = exit(Worker, kill), ok = ?SHIM:checkin(Pool, Worker)
             end
     end || {Number, Client} <- lists:enumerate(Clients), Number rem 2 =:= 0],
    [Client ! done || Client <- Clients],
    wait_until(fun() -> lists:all(fun(Client) -> not is_process_alive(Client) end, Clients) end),
    settled(Pool, {ready, 20, 0, 0}),
    ?assertEqual(0, maps:get(waiting, ?SHIM:status_map(Pool))),
    %% What was too much is told to end, which takes it a while.
    wait_until(fun() -> {links, Links} = process_info(whereis(Pool), links), length(Links -- [self()]) =:= 20 end).

use(Pool, Number) ->
    receive done -> ok
    after 0 ->
        Worker = ?SHIM:checkout(Pool, true, infinity),
        _ = catch gen_server:call(Worker, any),
        _ = case Number rem 3 of
                0 -> elsewhere(fun() -> ?SHIM:checkin(Pool, Worker) end);
                _ -> ?SHIM:checkin(Pool, Worker)
            end,
        use(Pool, Number)
    end.

%%% Beside poolboy.

%% In a VM of its own, as the other machines.
same_as_poolboy(Config) ->
    case code:ensure_loaded(poolboy) of
        {module, _} ->
            {ok, Vm, _} = peer:start_link(#{connection => standard_io, wait_boot => 60000,
                                            args => ["-kernel", "logger_level", "none", "-pa" | code:get_path()]}),
            {Result, Output} = peer:call(Vm, sockpool_proper_SUITE, checked,
                                         [sockpool_poolboy_statem, prop_same, ?config(seed, Config), 100], infinity),
            ok = peer:stop(Vm),
            ct:log("~ts", [Output]),
            ?assertEqual({true, ?config(seed, Config)}, {Result, ?config(seed, Config)});
        {error, _} ->
            {skip, "no poolboy here (Debian: erlang-poolboy)"}
    end.

%%% Pools.

args(Size, Overflow) ->
    [{worker_module, sockpool_poolboy_worker}, {size, Size}, {max_overflow, Overflow}].

started(Config, Size, Overflow) ->
    Pool = ?config(pool, Config),
    {ok, _} = ?SHIM:start_link([{name, {local, Pool}} | args(Size, Overflow)], args),
    Pool.

started(Config, Size, Overflow, Init, args) ->
    Pool = ?config(pool, Config),
    {ok, _} = ?SHIM:start_link([{name, {local, Pool}} | args(Size, Overflow)], [{init, Init}]),
    Pool.

settled(Pool, Status) ->
    wait_until(fun() -> case ?SHIM:status(Pool) of Status -> true; Other -> Other end end).

crash(Pid) ->
    true = unlink(Pid),
    end_process(Pid).

end_process(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% What the fun returns in a process that has ended since.
elsewhere(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({returned, Fun()}) end),
    receive {'DOWN', Monitor, process, Pid, {returned, Result}} -> Result end.

dead() -> elsewhere(fun() -> self() end).

%%% A gate that starting workers have to pass.

gate() ->
    {atomics:new(2, []), self()}.

shut({Counters, _}) -> atomics:put(Counters, 1, 1).

open({Counters, _}) -> atomics:put(Counters, 1, 0).

waiting_at({Counters, _}) -> atomics:get(Counters, 2).

pass({Counters, _} = Gate) ->
    ok = atomics:add(Counters, 2, 1),
    ok = wait_until(fun() -> atomics:get(Counters, 1) =:= 0 end),
    ok = atomics:sub(element(1, Gate), 2, 1),
    {ok, args}.
