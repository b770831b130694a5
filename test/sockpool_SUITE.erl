%%% Pools and leases: starting and stopping in each way there is, check-out and check-in, waiting,
%%% growing, giving away, statistics. Bytes are in sockpool_io_SUITE, connecting is in
%%% sockpool_connect_SUITE.
-module(sockpool_SUITE).
-behaviour(supervisor).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([init/1]).
-export([starts_and_stops/1, start_link_belongs_to_the_caller/1, child_of_the_users_supervisor/1,
         name_among_the_options/1, init_with_arguments/1, greet/3,
         pools_from_the_environment/1, bad_environment_stops_the_start/1,
         not_found_before_the_application/1]).
-export([checkout_and_checkin/1, statistics_count/1, timeout_0_never_waits/1,
         timeout_0_passes_over_the_dead/1, timeout_elapses/1, default_checkout_timeout/1, infinity_waits/1, waiters_are_served_in_order/1,
         max_waiting_refuses/1, max_waiting_0/1, discard_closes_and_replaces/1]).
-export([transaction_returns/1, transaction_closes_when_it_raises/1, transaction_without_connection/1,
         execute_returns/1, fun_may_end_its_lease/1]).
-export([give_away_moves_the_lease/1, give_away_to_the_dead/1]).
-export([overflow_grows_and_stays_within_ttl/1, overflow_ttl_0_closes_at_checkin/1,
         overflow_ttl_infinity_stays/1, size_0_connects_on_demand/1, lifo_and_fifo/1,
         each_scheduler_has_a_shard/1, own_again/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1,
                             await/1, elapsed_ms/1, assert_adds_up/1, assert_no_messages/0,
                             on_scheduler/2]).

all() ->
    [starts_and_stops, start_link_belongs_to_the_caller, child_of_the_users_supervisor, name_among_the_options,
     init_with_arguments,
     pools_from_the_environment, bad_environment_stops_the_start,
     not_found_before_the_application, checkout_and_checkin, statistics_count,
     timeout_0_never_waits, timeout_0_passes_over_the_dead, timeout_elapses, default_checkout_timeout, infinity_waits,
     waiters_are_served_in_order, max_waiting_refuses, max_waiting_0,
     discard_closes_and_replaces, transaction_returns, transaction_closes_when_it_raises,
     transaction_without_connection, execute_returns, fun_may_end_its_lease,
     give_away_moves_the_lease, give_away_to_the_dead, overflow_grows_and_stays_within_ttl,
     overflow_ttl_0_closes_at_checkin, overflow_ttl_infinity_stays, size_0_connects_on_demand,
     lifo_and_fifo, each_scheduler_has_a_shard].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Server = sockpool_test_server:start(),
    [{server, Server}, {pool, Case} | Config].

end_per_testcase(Case, _Config) ->
    _ = sockpool:stop_pool(Case),
    ok.

%%% Starting and stopping.

starts_and_stops(Config) ->
    Pool = ?config(pool, Config),
    Options = options(Config, #{size => 3, max_overflow => 4}),
    ?assertEqual(ok, sockpool:start_pool(Pool, Options)),
    Pid = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    #{name := Pool, size := 3, max_overflow := 4, total := 3} = settled(Pool),
    wait_until(fun() -> sockpool_test_server:accepted(?config(server, Config)) =:= 3 end),
    ?assert(lists:member(Pool, sockpool_test_util:pools())),
    {ok, All} = sockpool:stats(),
    ?assertEqual({ok, All}, sockpool:node_stats(node())),
    ?assertEqual([Pool], [Name || #{name := Name} <- All, Name =:= Pool]),
    ?assertEqual(sockpool:which_pools(), sockpool:which_pools(node())),
    ?assertEqual({error, {already_started, Pid}}, sockpool:start_pool(Pool, Options)),
    ok = sockpool:stop_pool(Pool),
    ?assertNot(is_process_alive(Pid)),
    ?assertNot(lists:member(Pool, sockpool_test_util:pools())),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool, 0)),
    ?assertEqual({error, not_found}, sockpool:request(Pool, "x", 1, 100)),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
    wait_until(fun() -> sockpool_test_server:live(?config(server, Config)) =:= 0 end).

start_link_belongs_to_the_caller(Config) ->
    Pool = ?config(pool, Config),
    process_flag(trap_exit, true),
    {ok, Pid} = sockpool:start_link(Pool, maps:to_list(options(Config, #{size => 1}))),
    {links, Links} = process_info(self(), links),
    ?assert(lists:member(Pid, Links)),
    _ = settled(Pool),
    AlreadyStarted = {error, {already_started, Pid}},
    ?assertEqual(AlreadyStarted, sockpool:start_link(Pool, options(Config, #{}))),
    ?assertEqual(AlreadyStarted, sockpool:start_pool(Pool, options(Config, #{}))),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
    ?assertEqual({ok, <<"mine">>}, sockpool:request(Pool, "mine", 4, 5000)),
    ok = gen_server:stop(Pid),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)).

child_of_the_users_supervisor(Config) ->
    Pool = ?config(pool, Config),
    Spec = sockpool:child_spec(Pool, [{init, nil} | maps:to_list(options(Config, #{size => 2}))]),
    {ok, Supervisor} = supervisor:start_link(?MODULE, [Spec]),
    _ = settled(Pool),
    [{{sockpool, Pool}, Pid, worker, [_]}] = supervisor:which_children(Supervisor),
    exit(Pid, kill),
    wait_until(fun() ->
                       case supervisor:which_children(Supervisor) of
                           [{_, New, _, _}] when is_pid(New), New =/= Pid -> true;
                           Other -> Other
                       end
               end),
    _ = settled(Pool),
    ?assertEqual({ok, <<"again">>}, sockpool:request(Pool, "again", 5, 5000)),
    ok = gen_server:stop(Supervisor),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)).

%% `{:sockpool, name: ..., host: ...}' is that to a supervisor of Elixir.
name_among_the_options(Config) ->
    Pool = ?config(pool, Config),
    Options = maps:to_list(options(Config, #{size => 1})),
    {ok, Supervisor} = supervisor:start_link(?MODULE, [sockpool:child_spec([{name, Pool} | Options])]),
    ?assertMatch([{{sockpool, Pool}, _, worker, [_]}], supervisor:which_children(Supervisor)),
    ?assertEqual({ok, <<"named">>}, sockpool:request(Pool, "named", 5, 5000)),
    ?assertMatch({error, {already_started, _}}, sockpool:start_link([{name, Pool} | Options])),
    Nameless = {bad_option, name, undefined},
    ?assertMatch({error, {Nameless, _}}, supervisor:start_child(Supervisor, sockpool:child_spec(Options))),
    ?assertEqual({error, Nameless}, sockpool:start_link([{name, nil} | Options])),
    NoOptions = {bad_option, opts, not_a_map},
    ?assertEqual({error, NoOptions}, sockpool:start_link(Pool)),
    ?assertMatch({error, {NoOptions, _}}, supervisor:start_child(Supervisor, sockpool:child_spec(Pool))),
    ok = gen_server:stop(Supervisor).

init_with_arguments(Config) ->
    Pool = started(Config, #{init => {?MODULE, greet, [self(), "hello"]}, size => 1, max_overflow => 0}),
    receive {greeted, Reply} -> ?assertEqual({ok, <<"hello">>}, Reply) end,
    ok = sockpool:stop_pool(Pool),
    ok = sockpool:start_pool(Pool, options(Config, #{init => {?MODULE, no_such, ["s3cret"]}})),
    {error, {unavailable, {init, {error, undef, [{?MODULE, no_such, 2, []} | _]}}}} =
        sockpool:checkout(Pool, 2000).

greet(Conn, Tester, Text) ->
    ok = sockpool:send(Conn, Text),
    Tester ! {greeted, sockpool:recv(Conn, length(Text))},
    ok.

%% A keyword list of keyword lists is what Elixir's configuration has.
pools_from_the_environment(Config) ->
    Pools = #{env_a => options(Config, #{size => 2}), env_b => options(Config, #{size => 1})},
    [pools_from_the_environment(Config, As)
     || As <- [Pools, maps:to_list(Pools), [{Name, [{bind, nil} | maps:to_list(Opts)]} || {Name, Opts} <- maps:to_list(Pools)]]],
    ok = restart_with(nil),
    ?assertEqual([], sockpool_test_util:pools()).

pools_from_the_environment(_Config, Pools) ->
    ok = restart_with(Pools),
    try
        ?assertEqual([env_a, env_b], lists:sort(sockpool_test_util:pools())),
        #{total := 2} = settled(env_a),
        ?assertEqual({ok, <<"env">>}, sockpool:request(env_b, "env", 3, 5000)),
        ?assertEqual(ok, sockpool:stop_pool(env_a)),
        ?assertEqual([env_b], sockpool_test_util:pools())
    after
        ok = restart_with(#{})
    end,
    ?assertEqual([], sockpool_test_util:pools()).

bad_environment_stops_the_start(Config) ->
    Good = options(Config, #{}),
    Bad = [{#{a => Good#{size => none}}, {pool, a, {bad_option, size, none}}},
           {#{a => Good, b => Good#{colour => red}}, {pool, b, {bad_option, colour, not_shown}}},
           {#{a => Good#{port => 0}}, {pool, a, {bad_option, port, 0}}},
           {#{a => not_a_map}, {pool, a, {bad_option, opts, not_a_map}}},
           {#{"a" => Good}, {pool, "a", {bad_argument, pool, "a"}}},
           {#{a => Good#{name => b}}, {pool, a, {bad_option, name, b}}},
           {[{a, Good}, {b, [{size, none} | maps:to_list(Good)]}], {pool, b, {bad_option, size, none}}},
           {[a], {bad_option, pools, not_a_map}},
           {[{a, Good} | b], {bad_option, pools, not_a_map}},
           {none, {bad_option, pools, not_a_map}}],
    try
        lists:foreach(fun({Pools, Reason}) ->
                              ?assertMatch({error, {{_Words, Reason}, _}}, restart_with(Pools)),
                              ?assertEqual([], sockpool_test_util:pools())
                      end, Bad)
    after
        ok = restart_with(#{})
    end.

restart_with(Pools) ->
    _ = application:stop(sockpool),
    ok = application:set_env(sockpool, pools, Pools),
    application:start(sockpool).

not_found_before_the_application(Config) ->
    ok = application:stop(sockpool),
    Pool = ?config(pool, Config),
    ?assertEqual({error, {not_started, sockpool}}, sockpool:start_pool(Pool, options(Config, #{}))),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)),
    ?assertEqual([], sockpool_test_util:pools()).

%% This suite is also the supervisor that a user would write.
init(Specs) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 1}, Specs}}.

%%% Check-out and check-in.

checkout_and_checkin(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, Address} = sockpool:sockname(Conn),
    ?assertMatch(#{leased := 1, idle := 0, total := 1}, assert_adds_up(Pool)),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    {ok, Again} = sockpool:checkout(Pool, 0),
    ?assertEqual({ok, Address}, sockpool:sockname(Again)),
    ?assertEqual({error, closed}, sockpool:send(Conn, "the old handle")),
    ?assertEqual(ok, sockpool:checkin(Again)),
    ?assertMatch(#{leased := 0, idle := 1, total := 1, reused := 1}, assert_adds_up(Pool)).

statistics_count(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 1}),
    Fresh = assert_adds_up(Pool),
    ?assertMatch(#{total := 2, idle := 2, leased := 0, connecting := 0, waiting := 0,
                   checkouts := 0, checkins := 0, created := 2, reused := 0, closed := 0,
                   abandoned := 0, timeouts := 0, pipelined := 0, connect_attempts := 2,
                   connect_failures := 0}, Fresh),
    {ok, A} = sockpool:checkout(Pool),
    {ok, B} = sockpool:checkout(Pool),
    ?assertMatch(#{total := 2, idle := 0, leased := 2}, assert_adds_up(Pool)),
    {ok, C} = sockpool:checkout(Pool),
    ?assertMatch(#{total := 3, leased := 3, created := 3}, assert_adds_up(Pool)),
    {error, timeout} = sockpool:checkout(Pool, 10),
    ok = sockpool:checkin(A),
    ok = sockpool:checkin(B),
    ok = sockpool:discard(C),
    {ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000),
    After = settled(Pool),
    ?assertMatch(#{checkouts := 4, checkins := 4, created := 3, reused := 1, closed := 1,
                   abandoned := 0, timeouts := 1, connect_failures := 0, total := 2}, After),
    ?assertEqual(lists:sort(maps:keys(Fresh)), lists:sort(maps:keys(After))).

timeout_0_never_waits(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool, 0),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertEqual({error, full}, sockpool:request(Pool, "x", 1, 0)),
    ok = sockpool:checkin(Conn),
    {ok, Again} = sockpool:checkout(Pool, 0),
    ok = sockpool:checkin(Again),
    assert_no_messages().

%% Most idle ones are dead, more than one call gets rid of, and they come first.
timeout_0_passes_over_the_dead(Config) ->
    Pool = ?config(pool, Config),
    on_scheduler(1, fun() ->
        ok = sockpool_dead_idle:start(Pool, 500, 10),
        {ok, Conn} = sockpool:checkout(Pool, 0),
        ok = sockpool:checkin(Conn),
        ok = sockpool:stop_pool(Pool),
        ok = sockpool_dead_idle:start(Pool, 500, 10),
        ?assertEqual({error, timeout}, sockpool:request(Pool, "x", 1, 0)),
        ok = sockpool:stop_pool(Pool)
    end).

timeout_elapses(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    {CheckoutMs, Checkout} = elapsed_ms(fun() -> sockpool:checkout(Pool, 50) end),
    {RequestMs, Request} = elapsed_ms(fun() -> sockpool:request(Pool, "x", 1, 50) end),
    ?assertEqual({{error, timeout}, {error, timeout}}, {Checkout, Request}),
    ?assert(CheckoutMs >= 50 andalso RequestMs >= 50),
    ?assertMatch(#{waiting := 0, timeouts := 2}, stats(Pool)),
    ok = sockpool:checkin(Conn),
    assert_no_messages().

default_checkout_timeout(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 60}),
    {ok, Conn} = sockpool:checkout(Pool),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:checkout(Pool) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms >= 60),
    ?assertEqual({error, timeout}, sockpool:execute(Pool, fun(_) -> not_run end)),
    ok = sockpool:checkin(Conn).

infinity_waits(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => infinity}),
    {ok, Conn} = sockpool:checkout(Pool),
    Jobs = [start(fun() ->
                          {ok, Mine} = Checkout(),
                          erlang:garbage_collect(),
                          sockpool:checkin(Mine)
                  end) || Checkout <- [fun() -> sockpool:checkout(Pool, infinity) end,
                                       fun() -> sockpool:checkout(Pool) end]],
    wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    %% A collection while they wait must not take the wait handle.
    [erlang:garbage_collect(Pid) || {Pid, _, _} <- Jobs],
    ?assertEqual(2, stat(Pool, waiting)),
    ok = sockpool:checkin(Conn),
    ?assertEqual([ok, ok], [await(Job) || Job <- Jobs]),
    ?assertMatch(#{total := 1, abandoned := 0}, settled(Pool)).

waiters_are_served_in_order(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Parent = self(),
    Jobs = lists:map(fun(N) ->
                             Job = start(fun() ->
                                                 {ok, Mine} = sockpool:checkout(Pool, infinity),
                                                 Parent ! {served, N},
                                                 sockpool:checkin(Mine)
                                         end),
                             wait_until(fun() -> stat(Pool, waiting) =:= N end),
                             Job
                     end, lists:seq(1, 30)),
    ok = sockpool:checkin(Conn),
    ?assertEqual(lists:seq(1, 30), [receive {served, N} -> N end || _ <- Jobs]),
    [ok = await(Job) || Job <- Jobs],
    ?assertMatch(#{total := 1, checkouts := 31}, settled(Pool)).

max_waiting_refuses(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, max_waiting => 2}),
    {ok, Conn} = sockpool:checkout(Pool),
    Jobs = [start(fun() -> sockpool:request(Pool, "in", 2, infinity) end) || _ <- [1, 2]],
    wait_until(fun() -> stat(Pool, waiting) =:= 2 end),
    ?assertEqual({error, full}, sockpool:checkout(Pool, infinity)),
    ?assertEqual({error, full}, sockpool:request(Pool, "x", 1, infinity)),
    ok = sockpool:checkin(Conn),
    ?assertEqual([{ok, <<"in">>}, {ok, <<"in">>}], [await(Job) || Job <- Jobs]),
    assert_no_messages().

max_waiting_0(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, max_waiting => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, full}, sockpool:checkout(Pool)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

discard_closes_and_replaces(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    {ok, Address} = sockpool:sockname(Conn),
    ?assertEqual(ok, sockpool:discard(Conn)),
    ?assertEqual({error, closed}, sockpool:discard(Conn)),
    {ok, Other} = sockpool:checkout(Pool),
    ?assertNotEqual({ok, Address}, sockpool:sockname(Other)),
    ok = sockpool:checkin(Other),
    ?assertMatch(#{created := 2, closed := 1, total := 1}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(?config(server, Config)) =:= 1 end).

%%% Transactions.

transaction_returns(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Echo = fun(Conn) ->
                   ok = sockpool:send(Conn, "abc"),
                   sockpool:recv(Conn, 3)
           end,
    ?assertEqual({ok, <<"abc">>}, sockpool:transaction(Pool, Echo)),
    ?assertEqual({ok, <<"abc">>}, sockpool:transaction(Pool, Echo, 1000)),
    ?assertMatch(#{created := 1, closed := 0, idle := 1, reused := 1}, assert_adds_up(Pool)).

transaction_closes_when_it_raises(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Raise = [{error, fun(_) -> error(boom) end}, {throw, fun(_) -> throw(boom) end},
             {exit, fun(_) -> exit(boom) end}],
    Run = [fun(F) -> sockpool:transaction(Pool, F) end,
           fun(F) -> sockpool:transaction(Pool, F, 5000) end,
           fun(F) -> sockpool:execute(Pool, F) end,
           fun(F) -> sockpool:execute(Pool, F, 5000) end],
    lists:foreach(fun({Class, Fun}) ->
                          [?assertException(Class, boom, R(Fun)) || R <- Run]
                  end, Raise),
    #{closed := Closed, total := 1} = settled(Pool),
    ?assertEqual(length(Raise) * length(Run), Closed).

transaction_without_connection(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    NotRun = fun(_) -> ct:fail(ran_without_connection) end,
    ?assertError({checkout, timeout}, sockpool:transaction(Pool, NotRun, 10)),
    ?assertError({checkout, full}, sockpool:transaction(Pool, NotRun, 0)),
    ?assertError({checkout, not_found}, sockpool:transaction(no_such_pool, NotRun)),
    ?assertEqual({error, timeout}, sockpool:execute(Pool, NotRun, 10)),
    ?assertEqual({error, full}, sockpool:execute(Pool, NotRun, 0)),
    ?assertEqual({error, not_found}, sockpool:execute(no_such_pool, NotRun)),
    ok = sockpool:checkin(Conn).

execute_returns(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertEqual({ok, {error, mine}}, sockpool:execute(Pool, fun(_) -> {error, mine} end)),
    ?assertMatch({ok, {ok, #{pool := Pool}}}, sockpool:execute(Pool, fun sockpool:info/1, 1000)),
    ?assertMatch(#{idle := 1, closed := 0}, assert_adds_up(Pool)).

fun_may_end_its_lease(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Parent = self(),
    Heir = start(fun() -> receive {take, Conn} -> sockpool:checkin(Conn) end end),
    ?assertEqual(ok, sockpool:transaction(Pool, fun sockpool:checkin/1)),
    ?assertEqual(ok, sockpool:transaction(Pool, fun sockpool:discard/1)),
    GiveAway = fun(Conn) ->
                       ok = sockpool:give_away(Conn, element(1, Heir)),
                       element(1, Heir) ! {take, Conn},
                       Parent
               end,
    ?assertEqual(Parent, sockpool:transaction(Pool, GiveAway)),
    ?assertEqual(ok, await(Heir)),
    ?assertMatch(#{total := 1, closed := 1, checkins := 3}, settled(Pool)).

%%% Giving away.

give_away_moves_the_lease(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    ok = sockpool:send(Conn, "for the heir"),
    Heir = start(fun() ->
                         Given = receive {take, It} -> It end,
                         {ok, <<"for the heir">>} = sockpool:recv(Given, 12),
                         receive finish -> sockpool:checkin(Given) end
                 end),
    ?assertEqual(ok, sockpool:give_away(Conn, element(1, Heir))),
    element(1, Heir) ! {take, Conn},
    NotOwner = {error, not_owner},
    ?assertEqual([NotOwner || _ <- lists:seq(1, 9)],
                 [sockpool:send(Conn, "x"), sockpool:recv(Conn, 0), sockpool:checkin(Conn),
                  sockpool:discard(Conn), sockpool:info(Conn), sockpool:peername(Conn),
                  sockpool:sockname(Conn), sockpool:setopts(Conn, [{nodelay, true}]),
                  sockpool:give_away(Conn, self())]),
    element(1, Heir) ! finish,
    ?assertEqual(ok, await(Heir)),
    ?assertMatch(#{total := 1, closed := 0, abandoned := 0, leased := 0}, settled(Pool)).

give_away_to_the_dead(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Dead = start(fun() -> gone end),
    gone = await(Dead),
    wait_until(fun() -> not is_process_alive(element(1, Dead)) end),
    ?assertEqual({error, noproc}, sockpool:give_away(Conn, element(1, Dead))),
    ?assertEqual(ok, sockpool:give_away(Conn, self())),
    ?assertEqual(ok, sockpool:checkin(Conn)).

%%% Growing and shrinking.

overflow_grows_and_stays_within_ttl(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 2, overflow_ttl => 400}),
    Conns = [Conn || _ <- lists:seq(1, 3), {ok, Conn} <- [sockpool:checkout(Pool)]],
    ?assertEqual(3, length(Conns)),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool, 10)),
    ?assertMatch(#{total := 3, leased := 3}, assert_adds_up(Pool)),
    Start = erlang:monotonic_time(microsecond),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    wait_until(fun() -> stat(Pool, total) < 3 end),
    %% The clock of the pool is a coarse one, of a few milliseconds.
    ?assert(sockpool_test_util:us_since(Start) >= 390000),
    wait_until(fun() -> stat(Pool, total) =:= 1 end),
    ?assertMatch(#{total := 1, idle := 1, closed := 2}, assert_adds_up(Pool)).

overflow_ttl_0_closes_at_checkin(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 2, overflow_ttl => 0}),
    Conns = [Conn || _ <- lists:seq(1, 3), {ok, Conn} <- [sockpool:checkout(Pool)]],
    ?assertEqual([3, 2, 1, 1], [stat(Pool, total)
                                | [begin
                                       ok = sockpool:checkin(Conn),
                                       stat(Pool, total)
                                   end || Conn <- Conns]]),
    ?assertMatch(#{total := 1, idle := 1, closed := 2}, assert_adds_up(Pool)).

overflow_ttl_infinity_stays(Config) ->
    Pool = started(Config, #{size => 0, max_overflow => 3, overflow_ttl => infinity}),
    Conns = [Conn || _ <- lists:seq(1, 3), {ok, Conn} <- [sockpool:checkout(Pool)]],
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ?assertMatch(#{total := 3, idle := 3, closed := 0}, settled(Pool)).

size_0_connects_on_demand(Config) ->
    Pool = started(Config, #{size => 0, max_overflow => 1, overflow_ttl => 0}),
    ?assertMatch(#{total := 0, connect_attempts := 0}, assert_adds_up(Pool)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)),
    ?assertMatch(#{total := 0, created := 1, closed := 1}, settled(Pool)),
    %% A check-out that does not wait starts the growth for the next one.
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    wait_until(fun() -> stat(Pool, created) =:= 2 end).

lifo_and_fifo(Config) ->
    ?assertEqual([3, 2, 1], order(Config, lifo_pool, lifo)),
    ?assertEqual([1, 2, 3], order(Config, fifo_pool, fifo)).

%% In which order three connections, checked in as 1, 2, 3, are handed out again.
order(Config, Pool, Strategy) ->
    Options = options(Config, #{size => 3, max_overflow => 0, strategy => Strategy}),
    ok = sockpool:start_pool(Pool, Options),
    _ = settled(Pool),
    Order = on_scheduler(1, fun() ->
                                    Names = checkin_all(checkout_all(Pool)),
                                    [proplists:get_value(Name, Names)
                                     || Name <- names(checkout_all(Pool))]
                            end),
    ok = sockpool:stop_pool(Pool),
    Order.

%% Also where a thread that is none calls the library before some of them do, here that of the handshakes.
each_scheduler_has_a_shard(Config) ->
    Ebins = [filename:dirname(code:which(Module)) || Module <- [sockpool, ?MODULE]],
    {ok, Vm, _} = peer:start(#{connection => standard_io, args => ["+S", "4:4", "+SDcpu", "1:1", "-pa" | Ebins]}),
    try
        {Given, Got} = peer:call(Vm, ?MODULE, own_again, [options(Config, #{size => 4, max_overflow => 0})]),
        ?assertEqual(Given, Got)
    after
        peer:stop(Vm)
    end.

%% What a process on each scheduler has checked in, one after another, and what each then gets. Of two with one
%% shard the first gets the second's.
own_again(Options) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool:start_pool(no_tls, Options#{transport => tls, tls => #{verify => none}}),
    wait_until(fun() -> stat(no_tls, connect_failures) > 0 end),
    ok = sockpool:start_pool(?MODULE, Options),
    _ = settled(?MODULE),
    Users = [spawn_opt(fun user/0, [link, {scheduler, N}]) || N <- lists:seq(1, erlang:system_info(schedulers))],
    Given = [ask(User, checkout) || User <- Users],
    _ = [ok = ask(User, checkin) || User <- Users],
    {Given, [ask(User, checkout) || User <- Users]}.

ask(User, What) ->
    User ! {self(), What},
    receive {User, Answer} -> Answer end.

user() ->
    {ok, Conn} = answer(checkout, fun() -> sockpool:checkout(?MODULE, 0) end,
                        fun({ok, C}) -> {ok, _} = sockpool:sockname(C) end),
    ok = answer(checkin, fun() -> sockpool:checkin(Conn) end, fun(Ok) -> Ok end),
    user().

answer(What, Do, Show) ->
    receive
        {From, What} ->
            Result = Do(),
            From ! {self(), Show(Result)},
            Result
    end.

checkout_all(Pool) ->
    [Conn || _ <- lists:seq(1, 3), {ok, Conn} <- [sockpool:checkout(Pool, 0)]].

names(Conns) ->
    [Name || Conn <- Conns, {ok, Name} <- [sockpool:sockname(Conn)]].

checkin_all(Conns) ->
    Names = names(Conns),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    lists:zip(Names, lists:seq(1, length(Names))).

%%% Helpers.

options(Config, More) ->
    maps:merge(sockpool_test_server:target(?config(server, Config)), More).

started(Config, More) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, options(Config, More)),
    _ = settled(Pool),
    Pool.
