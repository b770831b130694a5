%%% Drivers that others have written, in pools of processes, with the servers that they are for. Each is used by a thousand
%%% processes, while owners and workers are killed, and loses its server. A driver or a server that this machine does not
%%% have is not tried (see scripts/install_missing.sh).
-module(sockpool_drivers_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([answers/1, is_fit/1, dies_later/1, fails_and_leaves/1]).
-export([own_answers/1, own_answers_of_reused_workers/1, outage/1,
         driver_that_connects_again/1, driver_that_is_looked_at/1, driver_that_dies_later/1,
         driver_that_leaves_a_process/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, stat/2, unavailable/1]).
-import(sockpool_drivers, [options/1, ask/2, workers/1, processes/1, connections/1]).

-define(PROCESSES, 1000).
-define(SIZE, 16).
-define(OWNERS, 200).
-define(WORKERS, 100).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, Kind} || Kind <- [pgsql, redis, echo]] ++ [driver_that_dies_later, driver_that_leaves_a_process].

groups() ->
    Cases = [own_answers, own_answers_of_reused_workers, outage],
    [{pgsql, Cases}, {redis, Cases ++ [driver_that_connects_again, driver_that_is_looked_at]}, {echo, Cases}].

%% What the drivers say of their own ends is not looked at.
init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok = logger:update_handler_config(default, level, critical),
    Config.

end_per_suite(_Config) ->
    ok = logger:update_handler_config(default, level, all),
    application:stop(sockpool).

init_per_group(Kind, Config) ->
    case sockpool_drivers:missing(Kind) of
        [] -> [{kind, Kind}, {server, sockpool_drivers:server(Kind)} | Config];
        Packages -> {skip, lists:flatten(["not installed: ", lists:join(" ", Packages)])}
    end.

end_per_group(_Kind, Config) -> sockpool_drivers:stop(?config(server, Config)).

init_per_testcase(Case, Config) ->
    Pool = list_to_atom(lists:concat([proplists:get_value(kind, Config, any), "_", Case])),
    ok = sockpool_test_log:hear(Pool),
    [{pool, Pool} | Config].

end_per_testcase(_Case, Config) ->
    Pool = ?config(pool, Config),
    _ = sockpool:stop_pool(Pool),
    ok = sockpool_test_log:forget(Pool).

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(options(?config(server, Config)), Opts)),
    Pool.

%%% A thousand processes, of which some are killed, as are workers.

own_answers(Config) -> killed_at_random(Config, #{}).

own_answers_of_reused_workers(Config) -> killed_at_random(Config, #{abandoned => reuse}).

killed_at_random(Config, Opts) ->
    Kind = ?config(kind, Config),
    ct:pal("SOCKPOOL_SEED=~b", [?config(seed, Config)]),
    Pool = started(Config, Opts#{size => ?SIZE, max_overflow => 4, overflow_ttl => 0, checkout_timeout => 60000, backoff => {1, 10}}),
    Controller = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    _ = settled(Pool),
    Holders = ets:new(holders, [public]),
    Over = atomics:new(1, []),
    Clients = [spawn_monitor(fun() -> client(Kind, Pool, Holders, Over) end) || _ <- lists:seq(1, ?PROCESSES)],
    %% They never rest.
    _ = process_flag(priority, high),
    Owners = kill_owners(?OWNERS, Holders, list_to_tuple([Pid || {Pid, _} <- Clients]), []),
    ok = kill_workers(?WORKERS, Kind, Controller),
    ok = atomics:put(Over, 1, 1),
    _ = process_flag(priority, normal),
    [receive
         {'DOWN', Monitor, process, Pid, killed} -> ?assert(lists:member(Pid, Owners));
         {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
     end || {Pid, Monitor} <- Clients],
    #{total := ?SIZE, idle := ?SIZE, checkouts := Checkouts, checkins := Checkins, abandoned := Abandoned} = settled_exactly(Pool),
    ?assertEqual(Checkouts, Checkins + Abandoned),
    ?assert(Abandoned >= ?OWNERS div 4),
    Server = ?config(server, Config),
    wait_until(fun() -> is_equal(?SIZE, connections(Server)) end),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual([], workers(Kind)),
    %% What they are linked to hears of it.
    wait_until(fun() -> is_equal([], processes(Kind)) end),
    wait_until(fun() -> is_equal(0, connections(Server)) end).

is_equal(Same, Same) -> true;
is_equal(_Wanted, Other) -> Other.

%% An extra one goes when its overflow_ttl is over.
settled_exactly(Pool) ->
    wait_until(fun() -> is_equal(?SIZE, stat(Pool, total)) end),
    settled(Pool).

%% Until it is killed, or nobody is any more. A worker may be killed in its hands: then it has no answer.
client(Kind, Pool, Holders, Over) ->
    try sockpool:execute(Pool, fun(Worker) -> used(Kind, Worker, Holders) end) of
        {ok, ok} -> ok
    catch
        exit:{Reason, {gen_server, call, _}} when Reason =:= killed; Reason =:= noproc -> ok
    end,
    case atomics:get(Over, 1) of
        0 -> client(Kind, Pool, Holders, Over);
        1 -> ok
    end.

used(Kind, Worker, Holders) ->
    true = ets:insert(Holders, {self()}),
    try ask(Kind, Worker) after true = ets:delete(Holders, self()) end.

%% Every second one has a worker just now, if there is such a one.
kill_owners(0, _Holders, _Clients, Killed) ->
    Killed;
kill_owners(Left, Holders, Clients, Killed) ->
    Victim = case ets:tab2list(Holders) of
                 [_ | _] = Holding when Left rem 2 =:= 0 -> element(1, one_of(list_to_tuple(Holding)));
                 _ -> one_of(Clients)
             end,
    true = exit(Victim, kill),
    ok = pause(),
    kill_owners(Left - 1, Holders, Clients, [Victim | Killed]).

%% The pool's process has links to them.
kill_workers(0, _Kind, _Controller) ->
    ok;
kill_workers(Left, Kind, Controller) ->
    {links, Links} = process_info(Controller, links),
    _ = case [Pid || Pid <- workers(Kind), lists:member(Pid, Links)] of
            [] -> none_now;
            Workers -> true = exit(one_of(list_to_tuple(Workers)), kill)
        end,
    ok = pause(),
    kill_workers(Left - 1, Kind, Controller).

one_of(Tuple) -> element(rand:uniform(tuple_size(Tuple)), Tuple).

%% At any moment of what others do.
pause() -> receive after rand:uniform(10) - 1 -> ok end.

%%% The server goes, and comes again.

outage(Config) ->
    Kind = ?config(kind, Config),
    Server = ?config(server, Config),
    Pool = started(Config, #{size => 4, max_overflow => 0, backoff => {1, 50}}),
    _ = settled(Pool),
    ok = sockpool_drivers:down(Server),
    wait_until(fun() -> is_equal(0, stat(Pool, idle)) end),
    %% PostgreSQL takes connections until it has ended, and says so.
    wait_until(fun() -> is_equal(sockpool_drivers:refusal(Kind), unavailable(Pool)) end),
    ok = sockpool_drivers:again(Server),
    ?assertMatch(#{total := 4}, settled(Pool)),
    ?assertEqual(ok, sockpool:transaction(Pool, fun(Worker) -> ask(Kind, Worker) end)),
    Lines = lines_until("a worker was started again by "),
    ?assertMatch([_], [Line || Line <- Lines, string:find(Line, "cannot start a worker by ") =/= nomatch,
                               string:find(Line, "{worker,") =/= nomatch],
                 Lines).

lines_until(Part) ->
    receive
        {log, Line} ->
            case string:find(Line, Part) of
                nomatch -> [Line | lines_until(Part)];
                _ -> [Line]
            end
    after 60000 -> error(nothing_logged)
    end.

%%% eredis connects by itself, in the background and again and again, unless it is told not to. Then the pool has workers
%%% whether or not there is a server.

driver_that_connects_again(Config) ->
    Server = ?config(server, Config),
    Pool = started(Config, (again_and_again(Server))#{size => 2, max_overflow => 0}),
    _ = settled(Pool),
    Ask = fun(Worker) -> eredis:q(Worker, ["PING"]) end,
    wait_until(fun() -> sockpool:transaction(Pool, Ask) =:= {ok, <<"PONG">>} end),
    ok = sockpool_drivers:down(Server),
    wait_until(fun() -> sockpool:transaction(Pool, Ask) =:= {error, no_connection} end),
    ok = sockpool_drivers:again(Server),
    wait_until(fun() -> sockpool:transaction(Pool, Ask) =:= {ok, <<"PONG">>} end),
    ?assertMatch(#{created := 2, closed := 0, last_error := undefined}, stats(Pool)).

%% With functions that look, it is as with any other.
driver_that_is_looked_at(Config) ->
    Server = ?config(server, Config),
    Looks = #{init => {?MODULE, answers, []}, validate => {?MODULE, is_fit, []}},
    Pool = started(Config, maps:merge(again_and_again(Server), Looks#{size => 2, max_overflow => 0, backoff => {1, 50}})),
    _ = settled(Pool),
    ok = sockpool_drivers:down(Server),
    ?assertEqual({init, no_connection}, unavailable(Pool)),
    ok = sockpool_drivers:again(Server),
    _ = settled(Pool),
    ?assertEqual(ok, sockpool:transaction(Pool, fun(Worker) -> ask(redis, Worker) end)).

again_and_again(Server) ->
    #{worker := {eredis, Args}} = Opts = options(Server),
    Opts#{worker := {eredis, lists:keyreplace(reconnect_sleep, 1, Args, {reconnect_sleep, 20})}}.

answers(Worker) ->
    case eredis:q(Worker, ["PING"]) of
        {ok, _} -> ok;
        {error, _} = Error -> Error
    end.

is_fit(Worker) -> answers(Worker) =:= ok.

%%% Other ways in which a start may go.

%% It connects in the background, and ends where it cannot. The pool pauses when nobody has had it until then.
driver_that_dies_later(Config) ->
    Pool = ?config(pool, Config),
    BackoffMs = 1000,
    Began = erlang:monotonic_time(millisecond),
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => {?MODULE, dies_later, [refused]}, size => 4, max_overflow => 0,
                                     backoff => {BackoffMs, BackoffMs}}),
    wait_until(fun() -> stat(Pool, connect_attempts) >= 24 end),
    #{connect_attempts := Attempts, last_error := {worker, refused}} = stats(Pool),
    %% One, then the three others at once, then a random pause; in none of a hundred thousand runs are six of them so short.
    ?assert(Attempts div 4 * BackoffMs div 16 =< erlang:monotonic_time(millisecond) - Began),
    [Line] = lines_until("its workers ended: refused"),
    ?assertNotEqual(nomatch, string:find(Line, "1 of its workers")).

dies_later(Reason) -> {ok, spawn_link(fun() -> receive after 1 -> exit(Reason) end end)}.

%% A connector ends, and with it what it was linked to.
driver_that_leaves_a_process(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => {?MODULE, fails_and_leaves, [self()]}, size => 1,
                                     max_overflow => 0, backoff => {1000, 1000}}),
    Left = receive {left, Pid} -> Pid end,
    Monitor = monitor(process, Left),
    receive {'DOWN', Monitor, process, Left, _} -> ok after 5000 -> error(lives) end,
    ?assertEqual({worker, no_server}, unavailable(Pool)).

fails_and_leaves(Test) ->
    Test ! {left, spawn_link(fun() -> receive after infinity -> ok end end)},
    {error, no_server}.
