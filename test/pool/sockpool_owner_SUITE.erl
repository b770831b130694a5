%%% Owners that die, at any moment, or lose their connection: it comes back, and nothing leaks.
-module(sockpool_owner_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([log/2]).
-export([ten_thousand_kills/1, killed_at_the_grant/1, killed_while_receiving/1,
         time_from_down_to_reuse/1]).
-export([handle_in_an_ets_row/1, handle_in_an_exit_reason/1, handle_in_a_log_event/1,
         handle_in_a_message/1]).
-export([untouched_goes_on_used_is_closed/1, handle_collected_in_a_live_process/1,
         wait_handle_collected/1, max_hold/1, max_hold_ends_a_blocked_receive/1,
         heir_dies/1, giver_dies/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1,
                             percentile/2, us_since/1]).

-define(KILLS, 10000).
-define(OWNERS, 40).
-define(LOST, 40).
-define(DEATHS, 300).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [ten_thousand_kills, killed_at_the_grant, killed_while_receiving, time_from_down_to_reuse,
     handle_in_an_ets_row, handle_in_an_exit_reason, handle_in_a_log_event, handle_in_a_message,
     untouched_goes_on_used_is_closed, handle_collected_in_a_live_process,
     wait_handle_collected, max_hold, max_hold_ends_a_blocked_receive, heir_dies, giver_dies].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    [{pool, Case}, {server, sockpool_test_server:start()} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

%%% Kills at random moments.

ten_thousand_kills(Config) ->
    Pool = started(Config, #{size => 16, max_overflow => 8, overflow_ttl => 0,
                             backoff => {1, 10}}),
    Server = ?config(server, Config),
    ok = kill_owners(Pool, ?KILLS div 5),
    Before = resources(Pool, Server),
    ok = kill_owners(Pool, ?KILLS),
    #{total := 16, leased := 0, waiting := 0} = Stats = settled(Pool),
    ct:pal("after ~b kills: ~p", [?KILLS, Stats]),
    assert_same_resources(Before, Pool, Server),
    %% Many of them had a connection, and others got some work done.
    #{abandoned := Abandoned, checkins := Checkins} = Stats,
    ?assert(Abandoned > ?KILLS div 100 andalso Checkins > ?KILLS div 100),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)).

%% Keeps so many owners alive, kills one after the other, and in the end all of them.
kill_owners(Pool, Kills) ->
    Owners = maps:from_list([{N, owner(Pool)} || N <- lists:seq(1, ?OWNERS)]),
    Last = lists:foldl(fun(_, Alive) ->
                               N = rand:uniform(?OWNERS),
                               ok = kill(maps:get(N, Alive)),
                               pause(rand:uniform(10)),
                               Alive#{N := owner(Pool)}
                       end, Owners, lists:seq(1, Kills)),
    lists:foreach(fun kill/1, maps:values(Last)).

%% Not a wait for anything: kills come at moments that have nothing to do with what owners do.
pause(1) -> receive after 1 -> ok end;
pause(_) -> true = erlang:yield(), ok.

kill({Pid, Monitor}) ->
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end.

owner(Pool) ->
    Role = lists:nth(rand:uniform(7), [fun hold/1, fun use_and_hold/1, fun come_and_go/1,
                                       fun receive_for_ever/1, fun send_much/1, fun requests/1,
                                       fun unanswered_request/1]),
    spawn_monitor(fun() -> Role(Pool) end).

hold(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    receive {never, Conn} -> Conn end.

use_and_hold(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = sockpool:send(Conn, "x"),
    {ok, <<"x">>} = sockpool:recv(Conn, 1, infinity),
    receive {never, Conn} -> Conn end.

come_and_go(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = sockpool:checkin(Conn),
    come_and_go(Pool).

receive_for_ever(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    receive_on(Conn).

receive_on(Conn) ->
    {ok, _} = sockpool:recv(Conn, 0, infinity),
    receive_on(Conn).

send_much(Pool) ->
    Data = binary:copy(<<"much">>, 100000),
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = sockpool:send(Conn, Data, infinity),
    {ok, Data} = sockpool:recv(Conn, byte_size(Data), infinity),
    ok = sockpool:checkin(Conn),
    send_much(Pool).

requests(Pool) ->
    Id = integer_to_binary(erlang:unique_integer([positive])),
    {ok, Id} = sockpool:request(Pool, Id, byte_size(Id), infinity),
    requests(Pool).

unanswered_request(Pool) ->
    {never, Pool} = {sockpool:request(Pool, "x", 2, infinity), Pool}.

resources(Pool, Server) ->
    #{total := Total} = settled(Pool),
    wait_until(fun() -> sockpool_test_server:live(Server) =:= Total end),
    lists:foreach(fun erlang:garbage_collect/1, processes()),
    #{descriptors => sockpool_test_util:descriptors(),
      processes => length(processes()),
      monitors => process_info(pool_process(Pool), [monitors, monitored_by, links]),
      system => erlang:memory(system),
      binary => erlang:memory(binary)}.

pool_process(Pool) ->
    {_, Pid, _, _} = lists:keyfind({sockpool, Pool}, 1, supervisor:which_children(sockpool_sup)),
    Pid.

assert_same_resources(Before, Pool, Server) ->
    Exact = [descriptors, processes, monitors],
    wait_until(fun() ->
                       Now = resources(Pool, Server),
                       maps:with(Exact, Now) =:= maps:with(Exact, Before)
                           orelse {before, Before, now, Now}
               end),
    #{system := System, binary := Binary} = resources(Pool, Server),
    Grown = {System - maps:get(system, Before), Binary - maps:get(binary, Before)},
    ct:pal("memory grown by ~p bytes {system, binary}", [Grown]),
    %% 100 bytes lost per kill would be a million.
    ?assert(element(1, Grown) < 1000000 andalso element(2, Grown) < 500000).

%% The grant is on its way to a process that is killed.
killed_at_the_grant(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    Round = fun(_) ->
                    {ok, A} = sockpool:checkout(Pool, infinity),
                    {ok, B} = sockpool:checkout(Pool, infinity),
                    Waiters = [owner(Wait, Pool) || _ <- lists:seq(1, 10),
                                                    Wait <- [fun hold/1, fun requests/1]],
                    wait_until(fun() -> stat(Pool, waiting) =:= 20 end),
                    ok = sockpool:checkin(A),
                    ok = sockpool:checkin(B),
                    lists:foreach(fun kill/1, Waiters)
            end,
    lists:foreach(Round, lists:seq(1, 300)),
    ?assertMatch(#{total := 2, leased := 0, waiting := 0}, settled(Pool)).

owner(Role, Pool) -> spawn_monitor(fun() -> Role(Pool) end).

killed_while_receiving(Config) ->
    Pool = started(Config, #{size => 5, max_overflow => 0, backoff => {1, 10}}),
    Round = fun(_) ->
                    Readers = [owner(fun receive_for_ever/1, Pool) || _ <- lists:seq(1, 5)],
                    wait_until(fun() -> stat(Pool, leased) =:= 5 end),
                    %% What arrives meets the arm, the death, or nobody.
                    ok = sockpool_test_server:push(?config(server, Config), "x"),
                    lists:foreach(fun kill/1, Readers)
            end,
    lists:foreach(Round, lists:seq(1, 50)),
    ?assertMatch(#{total := 5, abandoned := 250}, settled(Pool)).

%% Printed, not judged: other programs share the machine.
time_from_down_to_reuse(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, backoff => {1, 10}}),
    [begin
         Samples = [down_to_reuse(Pool, Role) || _ <- lists:seq(1, ?DEATHS)],
         ct:pal("from DOWN to reuse, ~s: p50 ~b us, p99 ~b us, max ~b us",
                [What, percentile(50, Samples), percentile(99, Samples), lists:max(Samples)])
     end || {What, Role} <- [{"connection untouched", fun hold/1},
                             {"connection used, so replaced", fun use_and_hold/1}]],
    ?assertMatch(#{total := 1, abandoned := 2 * ?DEATHS}, settled(Pool)).

down_to_reuse(Pool, Role) ->
    {Pid, Monitor} = owner(Role, Pool),
    wait_until(fun() -> holds(Pid) end),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    Start = erlang:monotonic_time(microsecond),
    {ok, Conn} = sockpool:checkout(Pool, 10000),
    Us = us_since(Start),
    ok = sockpool:checkin(Conn),
    Us.

holds(Pid) ->
    case process_info(Pid, current_function) of
        {current_function, {?MODULE, Role, 1}} -> lists:member(Role, [hold, use_and_hold]);
        Other -> Other
    end.

%%% A handle that outlives its owner.

handle_in_an_ets_row(Config) ->
    Table = ets:new(kept, [public]),
    outlives(Config, fun(Conn) -> true = ets:insert(Table, {self(), Conn}) end),
    Rows = [Conn || {_, Conn} <- ets:tab2list(Table)],
    ?assertEqual([{error, not_owner} || _ <- lists:seq(1, ?LOST)],
                 [sockpool:send(Conn, "x") || Conn <- Rows]).

handle_in_an_exit_reason(Config) ->
    Keeper = keeper(),
    outlives(Config, fun(Conn) ->
                             Keeper ! {link, self()},
                             receive linked -> exit({lost, Conn}) end
                     end),
    kept(Keeper, fun({'EXIT', _, {lost, _}}) -> true; (_) -> false end).

handle_in_a_message(Config) ->
    Keeper = keeper(),
    outlives(Config, fun(Conn) -> Keeper ! {keep, Conn} end),
    kept(Keeper, fun({keep, _}) -> true; (_) -> false end).

%% Leaves its messages where they are, but for those that it must answer.
keeper() ->
    spawn_link(fun Keep() ->
                       _ = process_flag(trap_exit, true),
                       receive
                           {link, Pid} ->
                               link(Pid),
                               Pid ! linked,
                               Keep();
                           stop ->
                               ok
                       end
               end).

%% Who has died may be heard of there later than here.
kept(Keeper, Holds) ->
    wait_until(fun() ->
                       {messages, Messages} = process_info(Keeper, messages),
                       Count = length(lists:filter(Holds, Messages)),
                       Count =:= ?LOST orelse Count
               end),
    unlink(Keeper),
    Keeper ! stop.

handle_in_a_log_event(Config) ->
    Table = ets:new(kept, [public]),
    ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => Table}),
    try
        outlives(Config, fun(Conn) -> logger:error(#{lost => Conn}, #{domain => [sockpool_test]}) end)
    after
        ok = sockpool_test_log:forget(?MODULE)
    end,
    ?assertEqual(?LOST, length(ets:tab2list(Table))).

%% The logger's handler callback: keeps the event.
log(#{msg := {report, #{lost := _}}} = Event, #{config := Table}) ->
    ets:insert(Table, {make_ref(), Event});
log(_Event, _Config) ->
    ok.

%% Owners, half of whom used their connection, die once something keeps the handle, or with what will
%% keep it as their exit reason. All of the connections come back; the time it took is printed.
outlives(Config, Keep) ->
    Count = ?LOST,
    Pool = started(Config, #{size => Count, max_overflow => 0, backoff => {1, 10}}),
    Parent = self(),
    Owners = [spawn_monitor(fun() ->
                                    {ok, Conn} = sockpool:checkout(Pool, infinity),
                                    _ = N rem 2 =:= 0 andalso sockpool:send(Conn, "x"),
                                    Keep(Conn),
                                    Parent ! {kept, self()},
                                    receive {never, Conn} -> ok end
                            end) || N <- lists:seq(1, Count)],
    lists:foreach(fun kill/1, lists:filter(fun lives_on/1, Owners)),
    Start = erlang:monotonic_time(microsecond),
    Next = [start(fun() ->
                          {ok, Conn} = sockpool:checkout(Pool, 10000),
                          Parent ! {back, us_since(Start)},
                          receive all_are -> sockpool:checkin(Conn) end
                  end) || _ <- lists:seq(1, Count)],
    Times = [receive {back, Us} -> Us end || _ <- Next],
    [Pid ! all_are || {Pid, _, _} <- Next],
    [ok = await(Job) || Job <- Next],
    ct:pal("~b connections back after at most ~b ms", [Count, lists:max(Times) div 1000]),
    ?assertMatch(#{total := Count, abandoned := Count}, settled(Pool)).

%% Returns when its handle is kept, or is its exit reason.
lives_on({Pid, Monitor}) ->
    receive
        {kept, Pid} -> true;
        {'DOWN', Monitor, process, Pid, Reason} -> {lost, _} = Reason, false
    end.

%%% Without a death.

untouched_goes_on_used_is_closed(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Die = fun(Role) ->
                  {Pid, _} = Owner = owner(Role, Pool),
                  wait_until(fun() -> holds(Pid) end),
                  kill(Owner)
          end,
    ok = Die(fun hold/1),
    ?assertMatch(#{abandoned := 1, closed := 0, created := 1}, settled(Pool)),
    ok = Die(fun use_and_hold/1),
    ?assertMatch(#{abandoned := 2, closed := 1, created := 2}, settled(Pool)).

handle_collected_in_a_live_process(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ok = lose(Pool),
    erlang:garbage_collect(),
    ?assertMatch(#{abandoned := 1, closed := 0}, settled(Pool)),
    {ok, Conn} = sockpool:checkout(Pool, 10000),
    ok = sockpool:checkin(Conn).

lose(Pool) ->
    {ok, _Conn} = sockpool:checkout(Pool),
    ok.

%% As when an exception leaves the wait: here a process goes without having cancelled.
wait_handle_collected(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiter = owner(fun hold/1, Pool),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    ok = kill(Waiter),
    wait_until(fun() -> stat(Pool, waiting) =:= 0 end),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{abandoned := 0, checkouts := 1}, settled(Pool)).

max_hold(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0, max_hold => 1000}),
    {ok, Untouched} = sockpool:checkout(Pool),
    {ok, Used} = sockpool:checkout(Pool),
    ok = sockpool:send(Used, "x"),
    Start = erlang:monotonic_time(microsecond),
    wait_until(fun() -> stat(Pool, abandoned) =:= 2 end),
    ct:pal("max_hold of 1000 ms ended the leases after ~b ms", [us_since(Start) div 1000]),
    ?assert(us_since(Start) >= 900000),
    Closed = {error, closed},
    ?assertEqual([Closed || _ <- lists:seq(1, 6)],
                 [Call(Conn) || Conn <- [Untouched, Used],
                                Call <- [fun(C) -> sockpool:send(C, "x") end,
                                         fun(C) -> sockpool:recv(C, 1, 0) end,
                                         fun sockpool:checkin/1]]),
    ?assertMatch(#{total := 2, closed := 1, created := 3}, settled(Pool)).

max_hold_ends_a_blocked_receive(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, max_hold => 100}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertEqual({error, closed}, sockpool:recv(Conn, 1, 10000)),
    ?assertEqual({error, closed}, sockpool:request(Pool, "x", 2, 10000)),
    ?assertMatch(#{abandoned := 2, closed := 2}, settled(Pool)),
    sockpool_test_util:assert_no_messages().

%%% Given away.

heir_dies(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         {ok, Conn} = sockpool:checkout(Pool, 5000),
         {Heir, Monitor} = spawn_monitor(fun() -> receive after infinity -> ok end end),
         ok = sockpool:give_away(Conn, Heir),
         _ = Send andalso (Heir ! Conn),
         ok = kill({Heir, Monitor}),
         ?assertEqual({error, not_owner}, sockpool:send(Conn, "x"))
     end || Send <- [true, false, true, false]],
    ?assertMatch(#{total := 1, abandoned := 4}, settled(Pool)).

giver_dies(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Parent = self(),
    Giver = start(fun() ->
                          {ok, Conn} = sockpool:checkout(Pool),
                          ok = sockpool:give_away(Conn, Parent),
                          Parent ! {yours, Conn}
                  end),
    {yours, _} = await(Giver),
    Conn = receive {yours, Mine} -> Mine end,
    wait_until(fun() -> not is_process_alive(element(1, Giver)) end),
    %% Longer than a sweep: the lease is this process's, and lives.
    Abandoned = stat(Pool, abandoned),
    ok = sockpool:send(Conn, "x"),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Conn, 1)),
    ?assertEqual({error, timeout}, sockpool:recv(Conn, 1, 250)),
    ?assertEqual(Abandoned, stat(Pool, abandoned)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{abandoned := 0}, settled(Pool)).

%%% Helpers.

started(Config, More) ->
    Pool = ?config(pool, Config),
    Target = sockpool_test_server:target(?config(server, Config)),
    ok = sockpool:start_pool(Pool, maps:merge(Target, More)),
    _ = settled(Pool),
    Pool.
