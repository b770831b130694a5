%%% Pools of processes: workers that are handed out and given back, and what becomes of them when they, or those who
%%% have them, die.
-module(sockpool_worker_lease_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([dies_idle/1, dies_idle_before_anybody_had_it/1, dead_one_is_never_given/1, dying_one_is_not_given/1,
         dies_in_hands/1, dies_on_its_way/1, losses_are_logged_together/1, ends_unused/1]).
-export([owner_dies/1, owner_dies_reuse/1, dead_owner_and_dead_worker/1, handle_lost/1, held_too_long/1, given_away/1,
         overflow/1, strategy/1, max_waiting/1, discarded/1, pid_for_funs/1, no_stream/1, no_worker/1, told/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1, assert_no_messages/0,
                             unavailable/1, elapsed_ms/1]).
-import(sockpool_test_worker, [opts/1, opts/2, await_dead/1, killed/1, started/2, settled_pool/2, taken/1, workers/2,
                               owner/1, drain/0, logged/1, lines/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [dies_idle, dies_idle_before_anybody_had_it, dead_one_is_never_given, dying_one_is_not_given, dies_in_hands,
       dies_on_its_way, losses_are_logged_together, ends_unused, owner_dies, owner_dies_reuse,
       dead_owner_and_dead_worker, handle_lost, held_too_long, given_away, overflow, strategy, max_waiting, discarded,
       pid_for_funs, no_stream, no_worker, told]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_log:forget(?config(pool, Config)).

%%% Deaths of workers.

dies_idle(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 2})),
    [One, Two] = workers(Pool, 2),
    killed(One),
    wait_until(fun() -> stat(Pool, created) =:= 3 end),
    #{idle := 2, closed := 1, abandoned := 0} = settled(Pool),
    Now = workers(Pool, 2),
    ?assert(lists:member(Two, Now)),
    ?assertNot(lists:member(One, Now)),
    ?assertMatch(#{last_error := {worker, killed}}, stats(Pool)).

%% Counts as a failure: no turn after turn of starts whose workers are dead at once.
dies_idle_before_anybody_had_it(Config) ->
    Pool = started(Config, opts(#{}, #{backoff => {3600000, 3600000}})),
    First = receive {worker, started, Pid} -> Pid end,
    _ = settled(Pool),
    killed(First),
    ?assertEqual({worker, killed}, unavailable(Pool)),
    ?assertMatch(#{created := 1, connect_attempts := 1, connect_failures := 0}, stats(Pool)).

%% Who has killed one, and has heard of it, gets another. With two schedulers and some that get and give back meanwhile.
dead_one_is_never_given(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 4, backoff => {1, 1}})),
    Others = [start(fun() -> busy(Pool) end) || _ <- [1, 2]],
    [begin
         {ok, Worker} = sockpool:execute(Pool, fun(Pid) -> Pid end, infinity),
         killed(Worker),
         {ok, Next} = sockpool:execute(Pool, fun(Pid) -> {Pid, is_process_alive(Pid)} end, infinity),
         ?assertMatch({Other, true} when Other =/= Worker, Next, Round)
     end || Round <- lists:seq(1, 300)],
    [Pid ! enough || {Pid, _, _} <- Others],
    [ok = await(Job) || Job <- Others],
    #{idle := 4} = settled(Pool).

busy(Pool) ->
    receive
        enough -> ok
    after 0 ->
            {ok, _} = sockpool:execute(Pool, fun(Pid) -> is_process_alive(Pid) end, infinity),
            busy(Pool)
    end.

%% It takes its time to end: nobody has been told yet. Nobody has had it either.
dying_one_is_not_given(Config) ->
    Test = self(),
    Init = fun() ->
                   [monitor(process, Test) || _ <- lists:seq(1, 200000)],
                   ok
           end,
    [begin
         Pool = settled_pool(Config, opts(#{init => Init})),
         Slow = receive {worker, started, Pid} -> Pid end,
         true = exit(Slow, kill),
         wait_until(fun() -> not is_process_alive(Slow) end),
         Worker = sockpool:transaction(Pool, fun(Other) -> Other end, infinity),
         ?assertNotEqual(Slow, Worker),
         ok = sockpool:stop_pool(Pool),
         ok = drain()
     end || _ <- [1, 2]].

dies_in_hands(Config) ->
    ok = logged(Config),
    Pool = settled_pool(Config, opts(#{})),
    [begin
         {Conn, Worker} = taken(Pool),
         ok = Kill(Worker),
         _ = await_dead(Worker),
         ?assertEqual({error, closed}, Give(Conn)),
         ?assertEqual({error, closed}, Give(Conn)),
         ?assertEqual({error, closed}, sockpool:worker(Conn)),
         ?assertEqual({error, closed}, sockpool:info(Conn)),
         _ = settled(Pool)
     end || Give <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun(Conn) -> sockpool:give_away(Conn, self()) end],
            Kill <- [fun(Pid) -> exit(Pid, kill), ok end, fun(Pid) -> gen_server:cast(Pid, {stop, out_of_memory}) end]],
    #{checkouts := 6, checkins := 0, abandoned := 6, closed := 6, created := 7} = settled(Pool),
    ?assertMatch(#{last_error := {worker, out_of_memory}}, stats(Pool)),
    %% In transaction and execute, too.
    ?assertEqual(fine, sockpool:transaction(Pool, fun(Pid) -> killed(Pid), fine end)),
    ?assertExit({crashed_on_purpose, _}, sockpool:execute(Pool, fun(Pid) -> gen_server:call(Pid, crash) end)),
    ?assertMatch([_ | _], lines("1 of its workers ended: killed")),
    ok = assert_no_messages_but(worker).

assert_no_messages_but(Tag) ->
    receive Message when element(1, Message) =:= Tag -> assert_no_messages_but(Tag)
    after 0 -> assert_no_messages()
    end.

%% Given to who has waited, who has not looked at the message yet.
dies_on_its_way(Config) ->
    Pool = settled_pool(Config, opts(#{})),
    {Conn, Worker} = taken(Pool),
    Waiter = start(fun() -> sockpool:execute(Pool, fun(Pid) -> Pid end, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    true = erlang:suspend_process(element(1, Waiter)),
    ok = sockpool:checkin(Conn),
    wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    killed(Worker),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    true = erlang:resume_process(element(1, Waiter)),
    {ok, Other} = await(Waiter),
    ?assertNotEqual(Worker, Other),
    #{checkouts := 3, checkins := 2, abandoned := 1} = settled(Pool).

losses_are_logged_together(Config) ->
    ok = logged(Config),
    Pool = settled_pool(Config, opts(#{}, #{size => 20})),
    [exit(Pid, kill) || Pid <- workers(Pool, 20)],
    wait_until(fun() -> stat(Pool, created) =:= 40 end),
    %% Since the others were heard of before this.
    killed(hd(workers(Pool, 20))),
    wait_until(fun() -> stat(Pool, created) =:= 41 end),
    First = receive {log, Line} -> Line end,
    ?assertNotEqual(nomatch, string:find(First, "1 of its workers ended: killed")),
    ?assertEqual([], lines("of its workers ended")).

%% Started well, and dead before it can be had. The pauses are random below 50 ms: twenty of them are less than
%% 200 ms together once in two million times.
ends_unused(Config) ->
    Opts = (opts(#{}))#{worker := fun() -> {ok, spawn_link(fun() -> exit(no_server) end)} end, backoff := {50, 50}},
    {Ms, Pool} = elapsed_ms(fun() ->
                                Pool = started(Config, Opts),
                                wait_until(fun() -> stat(Pool, connect_attempts) > 20 end),
                                Pool
                            end),
    ?assert(Ms >= 199, Ms),
    wait_until(fun() -> maps:get(last_error, stats(Pool)) =:= {worker, no_server} end).

%%% Owners.

%% Nobody knows what state it is in.
owner_dies(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true}, #{size => 2})),
    {Owner, Worker} = owner(Pool),
    killed(Owner),
    receive {worker, terminated, Worker, Reason} -> ?assertEqual(shutdown, Reason) end,
    #{abandoned := 1, closed := 1, created := 3} = settled(Pool),
    ?assertNot(lists:member(Worker, workers(Pool, 2))).

owner_dies_reuse(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true}, #{abandoned => reuse})),
    {Owner, Worker} = owner(Pool),
    Waiter = start(fun() -> sockpool:execute(Pool, fun(Pid) -> Pid end, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    killed(Owner),
    ?assertEqual({ok, Worker}, await(Waiter)),
    #{abandoned := 1, closed := 0, created := 1} = settled(Pool),
    [Worker] = workers(Pool, 1).

dead_owner_and_dead_worker(Config) ->
    [begin
         Pool = settled_pool(Config, opts(#{}, #{abandoned => Abandoned})),
         {Owner, Worker} = owner(Pool),
         [exit(Pid, kill) || Pid <- Kill(Owner, Worker)],
         [_ = await_dead(Pid) || Pid <- [Owner, Worker]],
         wait_until(fun() -> stat(Pool, closed) =:= 1 end),
         #{abandoned := 1} = settled(Pool),
         ?assertNotEqual([Worker], workers(Pool, 1)),
         ok = sockpool:stop_pool(Pool)
     end || {Abandoned, Kill} <- [{close, fun(O, W) -> [O, W] end}, {close, fun(O, W) -> [W, O] end},
                                  {reuse, fun(O, W) -> [O, W] end}, {reuse, fun(O, W) -> [W, O] end}]].

%% Who has lost the handle may still use the worker.
handle_lost(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{abandoned => reuse})),
    Test = self(),
    Loser = spawn(fun() ->
                          {_Conn, Worker} = taken(Pool),
                          Test ! {lost, Worker},
                          true = erlang:garbage_collect(),
                          receive die -> ok end
                  end),
    receive {lost, Worker} -> _ = await_dead(Worker) end,
    ?assert(is_process_alive(Loser)),
    #{abandoned := 1, closed := 1} = settled(Pool),
    killed(Loser).

held_too_long(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{max_hold => 50, abandoned => reuse})),
    {Conn, Worker} = taken(Pool),
    _ = await_dead(Worker),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{abandoned := 1, closed := 1, created := 2} = settled(Pool).

given_away(Config) ->
    Pool = settled_pool(Config, opts(#{})),
    {Conn, Worker} = taken(Pool),
    Test = self(),
    Heir = spawn(fun() ->
                         Handle = receive Got -> Got end,
                         Test ! {heir, sockpool:worker(Handle)},
                         receive die -> Handle end
                 end),
    ok = sockpool:give_away(Conn, Heir),
    ?assertEqual({error, not_owner}, sockpool:worker(Conn)),
    ?assertEqual({error, not_owner}, sockpool:checkin(Conn)),
    Heir ! Conn,
    receive {heir, Worker} -> ok end,
    killed(Heir),
    _ = await_dead(Worker),
    #{abandoned := 1} = settled(Pool).

overflow(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true}, #{size => 1, max_overflow => 1, overflow_ttl => 0})),
    {One, First} = taken(Pool),
    {Two, Second} = taken(Pool),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ok = sockpool:checkin(One),
    receive {worker, terminated, First, shutdown} -> ok end,
    ok = sockpool:checkin(Two),
    [Second] = workers(Pool, 1),
    ok = sockpool:stop_pool(Pool),
    ok = drain(),
    %% For a while.
    Pool = settled_pool(Config, opts(#{}, #{size => 1, max_overflow => 1, overflow_ttl => 100})),
    _ = workers(Pool, 2),
    ?assertMatch(#{total := 2, idle := 2}, stats(Pool)),
    Before = stat(Pool, closed),
    wait_until(fun() -> stat(Pool, total) =:= 1 end),
    ?assertEqual(Before + 1, stat(Pool, closed)).

strategy(Config) ->
    Order = fun(Strategy) ->
                    Pool = settled_pool(Config, opts(#{}, #{size => 3, strategy => Strategy})),
                    Three = workers(Pool, 3),
                    Next = sockpool:transaction(Pool, fun(Pid) -> Pid end),
                    ok = sockpool:stop_pool(Pool),
                    {Three, Next}
            end,
    sockpool_test_util:on_scheduler(1, fun() ->
                                               {[_, _, Last], Last} = Order(lifo),
                                               {[First, _, _], First} = Order(fifo)
                                       end).

max_waiting(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{max_waiting => 1, checkout_timeout => 30})),
    {Conn, Worker} = taken(Pool),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool)),
    Waiter = start(fun() -> sockpool:execute(Pool, fun(Pid) -> Pid end, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 1000)),
    ?assertError({checkout, full}, sockpool:transaction(Pool, fun(Pid) -> Pid end)),
    ok = sockpool:checkin(Conn),
    {ok, Worker} = await(Waiter).

discarded(Config) ->
    Pool = settled_pool(Config, opts(#{trap => true})),
    {Conn, Worker} = taken(Pool),
    ok = sockpool:discard(Conn),
    receive {worker, terminated, Worker, shutdown} -> ok end,
    ?assertEqual({error, closed}, sockpool:worker(Conn)),
    #{checkins := 1, closed := 1, abandoned := 0} = settled(Pool).

%% The pid, and where the fun raises another one afterwards.
pid_for_funs(Config) ->
    Pool = settled_pool(Config, opts(#{})),
    [Worker] = workers(Pool, 1),
    Pid = fun(Got) -> Got end,
    ?assertEqual(Worker, sockpool:transaction(Pool, Pid)),
    ?assertEqual(Worker, sockpool:transaction(Pool, Pid, 100)),
    ?assertEqual({ok, Worker}, sockpool:execute(Pool, Pid)),
    ?assertEqual({ok, Worker}, sockpool:execute(Pool, Pid, infinity)),
    ?assertError(oops, sockpool:transaction(Pool, fun(_) -> error(oops) end)),
    _ = await_dead(Worker),
    _ = settled(Pool),
    ?assertThrow(oops, sockpool:execute(Pool, fun(_) -> throw(oops) end)),
    #{created := 3, closed := 2, leased := 0} = settled(Pool).

no_stream(Config) ->
    Pool = settled_pool(Config, opts(#{})),
    {Conn, _Worker} = taken(Pool),
    Refused = {error, {bad_option, transport, worker}},
    [?assertEqual(Refused, Asked) || Asked <- [sockpool:send(Conn, "x"), sockpool:send(Conn, "x", 10), sockpool:recv(Conn, 1),
                                               sockpool:recv(Conn, 1, 10), sockpool:peername(Conn), sockpool:sockname(Conn),
                                               sockpool:setopts(Conn, [{nodelay, true}]), sockpool:setopts(Conn, [{packet, 2}]),
                                               sockpool:request(Pool, "x", 1, 100), sockpool:reload_tls(Pool)]],
    ok = sockpool:checkin(Conn),
    [?assertEqual(Refused, Asked) || Asked <- [sockpool:request(Pool, "x", 1, 100), sockpool:call(Pool, erlang, node, [], 100),
                                               sockpool:send_to(Pool, server, message)]],
    #{leased := 0, closed := 0, created := 1} = settled(Pool),
    ok = assert_no_messages_but(worker).

no_worker(Config) ->
    Pool = settled_pool(Config, (sockpool_test_server:target(sockpool_test_server:start()))#{size => 1}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:worker(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, sockpool:worker(Conn)),
    [?assertEqual({error, {bad_argument, conn, Wrong}}, sockpool:worker(Wrong)) || Wrong <- [self(), Pool, {}, []]].

told(Config) ->
    Pool = settled_pool(Config, opts(#{}, #{size => 2})),
    {Conn, Worker} = taken(Pool),
    {ok, Info} = sockpool:info(Conn),
    ?assertMatch(#{pool := Pool, transport := worker, worker := Worker, age := _}, Info),
    ?assertEqual([age, pool, transport, worker], lists:sort(maps:keys(Info))),
    ?assertMatch(#{name := Pool, size := 2, idle := 1, leased := 1, connecting := 0, total := 2, created := 2,
                   connect_attempts := 2, last_error := undefined}, stats(Pool)),
    ok = sockpool:checkin(Conn).
