%%% Starts, stops, restarts: what belongs to one pool takes no other along and holds up no other, however
%%% often it crashes and however slow it is.
-module(sockpool_sup_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, settled/1, start/1, await/1, run_all/1, assert_no_messages/0]).

%% In a row: more than supervisors bear, of which many allow ten in ten seconds.
-define(CRASHES, 11).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [{group, side_by_side},
     a_slow_start_holds_up_nobody, a_stop_during_a_start, a_crash_during_a_start,
     start_link_of_a_running_name, start_that_fails, what_supervisors_answer].

%% Pauses that grow take their time.
groups() ->
    [{side_by_side, [parallel],
      [crashes_of_one_pool, crashes_of_the_server, a_crashed_pool_is_stopped, in_the_order_of_the_calls,
       a_stop_that_takes_too_long]}].

init_per_suite(Config) -> sockpool_tls_kit:with_certificates(Config).

end_per_suite(_Config) -> ok.

init_per_group(side_by_side, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [{shared, true} | Config].

end_per_group(side_by_side, _Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Server = sockpool_test_server:start(),
    Options = (sockpool_test_server:target(Server))#{size => 2, max_overflow => 0, backoff => {1, 10}},
    Quiet = list_to_atom(atom_to_list(Case) ++ "_quiet"),
    ok = sockpool:start_pool(Quiet, Options),
    _ = settled(Quiet),
    ok = sockpool_test_log:hear(Case, ?MODULE, #{config => self(), level => notice}),
    [{pool, Case}, {quiet, Quiet}, {options, Options}, {before, untouched(Quiet)} | Config].

end_per_testcase(Case, Config) ->
    ok = sockpool_test_log:forget(Case),
    ?assertEqual(?config(before, Config), untouched(?config(quiet, Config))),
    case proplists:get_value(shared, Config, false) of
        true -> lists:foreach(fun sockpool:stop_pool/1, [Case, ?config(quiet, Config)]);
        false -> application:stop(sockpool)
    end.

untouched(Quiet) ->
    {ok, #{created := Created, closed := Closed}} = sockpool:stats(Quiet),
    {whereis(sockpool_sup), controller(Quiet), Created, Closed}.

controller(Pool) -> sockpool_nif:pool_controller(sockpool_pool:find(Pool)).

%% What is logged, as messages to the case.
log(Event, #{config := Pid}) -> Pid ! {logged, Event}.

%% Of sockpool's own lines, and of reports about processes that crashed.
logged() -> logged([]).

logged(Lines) ->
    receive
        {logged, Event} -> logged([line(Event, sockpool_test_log:line(Event)) | Lines])
    after 0 ->
        lists:reverse(Lines)
    end.

line(_Event, {ok, Line}) -> Line;
line(#{msg := {report, Report}}, none) -> {report, Report};
line(#{msg := {Format, Args}}, none) -> lists:flatten(io_lib:format(Format, Args)).

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

again(Find, Old) ->
    wait_until(fun() -> Now = Find(), is_pid(Now) andalso Now =/= Old end),
    Find().

assert_quiet(Config) ->
    ?assertEqual({ok, <<"quiet">>}, sockpool:request(?config(quiet, Config), "quiet", 5, 5000)).

%%% Crashes.

%% It comes back each time, is told of twice, and then by itself.
crashes_of_one_pool(Config) ->
    Pool = ?config(pool, Config),
    {ok, First} = sockpool_test_util:start_pool(Pool, ?config(options, Config)),
    Last = lists:foldl(fun(_, Pid) ->
                               ok = kill(Pid),
                               assert_quiet(Config),
                               again(fun() -> controller(Pool) end, Pid)
                       end, First, lists:seq(1, ?CRASHES)),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)),
    ?assertEqual(Last, controller(Pool)),
    ?assertMatch([_, _], [Line || Line <- logged(), is_list(Line), string:find(Line, atom_to_list(Pool)) =/= nomatch]).

crashes_of_the_server(Config) ->
    Leased = sockpool:checkout(?config(quiet, Config)),
    Crash = fun(Name) ->
                    Old = whereis(Name),
                    ok = kill(Old),
                    again(fun() -> whereis(Name) end, Old)
            end,
    _ = run_all([fun() -> [Crash(Name) || _ <- lists:seq(1, ?CRASHES)] end
                 || Name <- [sockpool, sockpool_janitor]]),
    {ok, Conn} = Leased,
    ok = sockpool:checkin(Conn),
    assert_quiet(Config).

%% Between two restarts. Its callers hear the same as of any that was stopped.
a_crashed_pool_is_stopped(Config) ->
    Pool = ?config(pool, Config),
    {ok, Pid} = sockpool_test_util:start_pool(Pool, ?config(options, Config)),
    _ = lists:foldl(fun(_, Old) -> ok = kill(Old), again(fun() -> controller(Pool) end, Old) end,
                    Pid, lists:seq(1, 5)),
    ok = kill(controller(Pool)),
    wait_until(fun() -> lists:member({{sockpool, Pool}, restarting, worker, [sockpool_pool]},
                                     supervisor:which_children(sockpool_sup)) end),
    ?assertEqual({error, closed}, sockpool:checkout(Pool)),
    ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Pool, ?config(options, Config))),
    ?assertEqual(ok, sockpool:stop_pool(Pool)),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
    ok = sockpool:start_pool(Pool, ?config(options, Config)),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)).

%%% Slow ones.

%% A pool whose password comes when the case says so.
slow(Config) ->
    Self = self(),
    (?config(options, Config))#{transport => tls, connect_timeout => 60000,
                                tls => #{verify => none,
                                         password => fun() -> Self ! {asked, self()},
                                                              receive Password -> Password end
                                                     end}}.

a_slow_start_holds_up_nobody(Config) ->
    Pool = ?config(pool, Config),
    Slow = slow(Config),
    Starter = start(fun() -> sockpool:start_pool(Pool, Slow) end),
    Asked = receive {asked, Pid} -> Pid end,
    {ok, Other} = sockpool_test_util:start_pool(other, ?config(options, Config)),
    ok = kill(Other),
    _ = again(fun() -> controller(other) end, Other),
    ?assertEqual({ok, <<"works">>}, sockpool:request(other, "works", 5, 5000)),
    ok = sockpool:stop_pool(other),
    %% Its own users wait meanwhile, as for a server that is slow.
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    ?assertMatch({error, {already_started, _}}, sockpool:start_pool(Pool, ?config(options, Config))),
    Asked ! "password",
    ?assertEqual(ok, await(Starter)).

a_stop_during_a_start(Config) ->
    Pool = ?config(pool, Config),
    Slow = slow(Config),
    Starter = start(fun() -> sockpool:start_pool(Pool, Slow) end),
    Asked = receive {asked, Pid} -> Pid end,
    Monitor = monitor(process, Asked),
    ?assertEqual(ok, sockpool:stop_pool(Pool)),
    ?assertEqual({error, draining}, await(Starter)),
    receive {'DOWN', Monitor, process, Asked, _} -> ok end,
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)).

a_crash_during_a_start(Config) ->
    Pool = ?config(pool, Config),
    Slow = slow(Config),
    Starter = start(fun() -> sockpool:start_pool(Pool, Slow) end),
    receive {asked, _} -> ok end,
    ok = kill(controller(Pool)),
    ?assertEqual({error, killed}, await(Starter)),
    ?assertEqual({error, not_found}, sockpool:stop_pool(Pool)),
    ok = sockpool:start_pool(Pool, ?config(options, Config)).

%%% Calls that meet.

%% While it stops, which takes as long as the case wants.
in_the_order_of_the_calls(Config) ->
    Pool = ?config(pool, Config),
    Options = ?config(options, Config),
    {ok, Pid} = sockpool_test_util:start_pool(Pool, Options),
    true = erlang:suspend_process(Pid),
    Jobs = [begin
                Job = start(Call),
                wait_until(fun() -> is_asking(Job) end),
                Job
            end || Call <- [fun() -> sockpool:stop_pool(Pool) end,
                            fun() -> sockpool:start_pool(Pool, Options) end,
                            fun() -> sockpool:start_pool(Pool, Options) end,
                            fun() -> sockpool:stop_pool(Pool) end,
                            fun() -> sockpool:stop_pool(Pool) end,
                            fun() -> sockpool:start_pool(Pool, Options) end]],
    true = erlang:resume_process(Pid),
    [Stop, Start, Again, StopAgain, StopTwice, Last] = [await(Job) || Job <- Jobs],
    ?assertEqual([ok, ok, {error, not_found}], [Stop, StopAgain, StopTwice]),
    %% Which was under way when its stop came.
    ?assertEqual({error, draining}, Start),
    ?assertMatch({error, {already_started, _}}, Again),
    ?assertEqual(ok, Last),
    ?assert(is_pid(controller(Pool))).

is_asking({Pid, _, _}) ->
    {current_function, {gen, do_call, 4}} =:= process_info(Pid, current_function)
        andalso is_tuple(sys:get_state(sockpool_sup)).

%% It is killed, as a supervisor does it, and is no pool of which anybody hears again.
a_stop_that_takes_too_long(Config) ->
    Pool = ?config(pool, Config),
    {ok, Pid} = sockpool_test_util:start_pool(Pool, ?config(options, Config)),
    true = erlang:suspend_process(Pid),
    ?assertEqual(ok, sockpool:stop_pool(Pool)),
    ?assertNot(is_process_alive(Pid)),
    wait_until(fun() -> sockpool:stats(Pool) =:= {error, not_found} end),
    ok = sockpool:start_pool(Pool, ?config(options, Config)),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)).

%%% Starts that fail.

%% Neither caller nor log have more of it than the answer.
start_link_of_a_running_name(Config) ->
    Pool = ?config(pool, Config),
    {ok, Pid} = sockpool_test_util:start_pool(Pool, ?config(options, Config)),
    fails(fun() -> sockpool:start_link(Pool, ?config(options, Config)) end, {already_started, Pid}),
    fails(fun() -> sockpool:start_pool(Pool, ?config(options, Config)) end, {already_started, Pid}).

start_that_fails(Config) ->
    Pool = ?config(pool, Config),
    Options = (?config(options, Config))#{transport => tls, tls => #{cacertfile => "/no/such"}},
    fails(fun() -> sockpool:start_link(Pool, Options) end, {tls, {cacertfile, enoent}}),
    fails(fun() -> sockpool:start_pool(Pool, Options) end, {tls, {cacertfile, enoent}}),
    ?assertEqual({error, not_found}, sockpool:checkout(Pool)).

fails(Start, Reason) ->
    [?assertEqual({error, Reason}, await(start(fun() ->
                                                       _ = process_flag(trap_exit, Trap),
                                                       Result = Start(),
                                                       ok = assert_no_messages(),
                                                       Result
                                               end)))
     || Trap <- [false, true]],
    ?assertEqual([], logged()).

%%% For tools.

what_supervisors_answer(Config) ->
    Quiet = ?config(quiet, Config),
    ?assertEqual(lists:sort([{sockpool_events, whereis(sockpool_events), worker, [sockpool_events]},
                             {sockpool_janitor, whereis(sockpool_janitor), worker, [sockpool_janitor]},
                             {sockpool_server, whereis(sockpool), worker, [sockpool_server]},
                             {{sockpool, Quiet}, controller(Quiet), worker, [sockpool_pool]}]),
                 lists:sort(supervisor:which_children(sockpool_sup))),
    ?assertEqual([{specs, 4}, {active, 4}, {supervisors, 0}, {workers, 4}],
                 supervisor:count_children(sockpool_sup)),
    ?assertEqual(sockpool_sup, supervisor:get_callback_module(sockpool_sup)).
