%%% A time-out holds whatever other processes do. First what ends a wait for a connection where sockpool's
%%% own processes do not run; then every function with a time-out against a partner that never answers, at
%%% each of its steps.
-module(sockpool_wait_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([pool_process_suspended/1, pool_process_behind_at_its_start/1, pool_process_starved/1,
         pool_gone_and_janitor_suspended/1, many_waits_of_a_suspended_pool/1,
         wait_is_granted_by_others/1, refused_worker_and_the_time_left/1, holders_are_not_preempted/1]).
-export([janitor_dies_with_its_message/1, janitor_of_before_is_told/1, janitor_and_strange_pools/1]).
-export([name_lookup_never_answers/1, connect_never_answers/1, handshake_never_answers/1,
         init_never_returns/1, peer_never_reads/1, peer_never_sends/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, elapsed_ms/1,
                             assert_no_messages/0]).

%% Long enough to have no timer of its own.
-define(LONG_MS, 2100).
%% What the README says, and a machine that others use as well.
-define(LATE_MS, 2500).

suite() -> [{timetrap, {minutes, 2}}].

%% Most of them only wait, and do it side by side. The others do something to what all pools share.
all() -> [{group, side_by_side}, {group, alone}].

groups() ->
    [{side_by_side, [parallel],
      [pool_process_suspended, pool_process_behind_at_its_start, many_waits_of_a_suspended_pool,
       wait_is_granted_by_others, refused_worker_and_the_time_left, connect_never_answers, handshake_never_answers, init_never_returns,
       peer_never_reads, peer_never_sends, {group, of_one_janitor}]},
     {of_one_janitor, [pool_gone_and_janitor_suspended, name_lookup_never_answers]},
     {alone, [pool_process_starved, holders_are_not_preempted, janitor_dies_with_its_message, janitor_of_before_is_told,
              janitor_and_strange_pools]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_group(_Group, Config) -> Config.

end_per_group(_Group, _Config) -> ok.

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(Case, _Config) -> sockpool:stop_pool(Case).

%%% What waits for a connection.

waits(Pool, Timeout) ->
    [fun() -> sockpool:checkout(Pool, Timeout) end,
     fun() -> sockpool:execute(Pool, fun(_) -> ok end, Timeout) end,
     fun() ->
             try sockpool:transaction(Pool, fun(_) -> ok end, Timeout)
             catch error:{checkout, Reason} -> {error, Reason}
             end
     end,
     fun() -> sockpool:request(Pool, "small", 1, Timeout) end,
     fun() -> sockpool:request(Pool, binary:copy(<<"large">>, 1000), 1, Timeout) end].

%% Each in a process of its own, all at once.
timed(Funs) ->
    [start(fun() ->
                   Timed = elapsed_ms(Fun),
                   ok = assert_no_messages(),
                   Timed
           end) || Fun <- Funs].

assert_timed_out(Jobs, Timeout) ->
    [begin
         {Ms, Result} = await(Job),
         case Result of
             {error, timeout} -> ok;
             {error, {unavailable, _}} -> ok
         end,
         ?assert(Ms >= Timeout),
         ?assert(Ms < Timeout + ?LATE_MS, {late, Ms})
     end || Job <- Jobs].

assert_holds(Funs, Timeout) ->
    assert_timed_out(timed(Funs), Timeout).

%% All of its connections are somebody's.
busy_pool(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Opts = #{size => 1, max_overflow => 0, checkout_timeout => ?LONG_MS},
    {ok, Pid} = sockpool_test_util:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), Opts)),
    _ = settled(Pool),
    {ok, Conn} = sockpool:checkout(Pool),
    {Pool, Pid, Conn}.

%%% Whoever ends waits does not run.

pool_process_suspended(Config) ->
    {Pool, Pid, Conn} = busy_pool(Config),
    true = erlang:suspend_process(Pid),
    Short = timed(waits(Pool, 300)),
    Long = timed([fun() -> sockpool:checkout(Pool) end | waits(Pool, ?LONG_MS)]),
    assert_timed_out(Short, 300),
    assert_timed_out(Long, ?LONG_MS),
    ?assertMatch({ok, #{waiting := 0, timeouts := 11}}, sockpool:stats(Pool)),
    true = erlang:resume_process(Pid),
    ok = sockpool:checkin(Conn),
    ?assertEqual({ok, <<"works">>}, sockpool:request(Pool, "works", 5, 5000)).

%% The name is known before the pool's process has begun with its ticks: here it waits for a password.
pool_process_behind_at_its_start(Config) ->
    Pool = ?config(pool, Config),
    Self = self(),
    Password = fun() -> Self ! asked, receive never -> "" end end,
    Starter = spawn_link(fun() ->
                                 sockpool:start_pool(Pool, #{host => {127, 0, 0, 1}, port => 1,
                                                             transport => tls,
                                                             connect_timeout => 60000,
                                                             tls => #{password => Password}})
                         end),
    receive asked -> ok end,
    assert_holds(waits(Pool, ?LONG_MS), ?LONG_MS),
    unlink(Starter),
    exit(Starter, kill),
    %% Or the supervisor waits for it at the end.
    exit(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), kill).

%% Every scheduler is always busy with processes that come first.
pool_process_starved(Config) ->
    {Pool, Pid, Conn} = busy_pool(Config),
    Normal = process_flag(priority, high),
    Until = erlang:monotonic_time(millisecond) + ?LONG_MS + 2 * ?LATE_MS,
    Spinners = [spawn_opt(fun() -> spin(Until) end, [link, {priority, high}])
                || _ <- lists:seq(1, 2 * erlang:system_info(schedulers))],
    Before = process_info(Pid, reductions),
    Parent = self(),
    [spawn_opt(fun() -> Parent ! {ended, elapsed_ms(Wait)} end, [link, {priority, high}])
     || Wait <- waits(Pool, ?LONG_MS)],
    Ended = [receive {ended, Timed} -> Timed end || _ <- waits(Pool, 0)],
    After = process_info(Pid, reductions),
    [begin unlink(Spinner), exit(Spinner, kill) end || Spinner <- Spinners],
    _ = process_flag(priority, Normal),
    [begin
         ?assertEqual({error, timeout}, Result),
         ?assert(Ms < ?LONG_MS + ?LATE_MS, {late, Ms})
     end || {Ms, Result} <- Ended],
    ct:pal("reductions of the pool's process: ~p to ~p, ended after ~p", [Before, After, Ended]),
    ok = sockpool:checkin(Conn).

spin(Until) ->
    erlang:monotonic_time(millisecond) < Until andalso spin(Until).

%% Neither the pool's process nor the one that cleans up after it.
pool_gone_and_janitor_suspended(Config) ->
    {Pool, Pid, Conn} = pool_of_nobody(Config),
    Janitor = whereis(sockpool_janitor),
    true = erlang:suspend_process(Janitor),
    %% As long as it may take until all of them wait, on a machine that has other things to do.
    TimeMs = 8000,
    Long = timed(waits(Pool, TimeMs)),
    wait_until(fun() -> stat(Pool, waiting) =:= length(Long) end),
    exit(Pid, kill),
    assert_timed_out(Long, TimeMs),
    %% Until here it was somebody's: a handle that nobody will use again is collected.
    _ = sockpool:discard(Conn),
    true = erlang:resume_process(Janitor).

%% More than one slice of a tick ends, each of them told once.
many_waits_of_a_suspended_pool(Config) ->
    {Pool, Pid, Conn} = busy_pool(Config),
    true = erlang:suspend_process(Pid),
    assert_holds(lists:duplicate(1000, fun() -> sockpool:checkout(Pool, ?LONG_MS) end), ?LONG_MS),
    ?assertMatch({ok, #{waiting := 0, timeouts := 1000}}, sockpool:stats(Pool)),
    true = erlang:resume_process(Pid),
    ok = sockpool:checkin(Conn).

%% The clock takes nobody's connection away.
wait_is_granted_by_others(Config) ->
    {Pool, Pid, Conn} = busy_pool(Config),
    true = erlang:suspend_process(Pid),
    Waiters = [start(fun() ->
                             {ok, Own} = sockpool:checkout(Pool, 60000),
                             ok = sockpool:checkin(Own),
                             assert_no_messages()
                     end) || _ <- lists:seq(1, 10)],
    wait_until(fun() -> stat(Pool, waiting) =:= 10 end),
    assert_holds(waits(Pool, ?LONG_MS), ?LONG_MS),
    ok = sockpool:checkin(Conn),
    [ok = await(Waiter) || Waiter <- Waiters],
    true = erlang:resume_process(Pid).

%% The pool's function takes the worker that was waited for as unfit, and no other starts.
refused_worker_and_the_time_left(Config) ->
    Pool = ?config(pool, Config),
    Test = self(),
    Worker = spawn(fun() -> receive stop -> ok end end),
    Start = fun() ->
                    Test ! {starting, self()},
                    receive {give, Pid} -> link(Pid), {ok, Pid} end
            end,
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => Start, size => 1, max_overflow => 0,
                                     validate => fun(_) -> get(refuses) =/= true end}),
    receive {starting, First} -> First ! {give, Worker} end,
    {ok, Held} = sockpool:checkout(Pool),
    Waiting = start(fun() ->
                            put(refuses, true),
                            elapsed_ms(fun() -> sockpool:checkout(Pool, ?LONG_MS) end)
                    end),
    ok = wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    timer:sleep(?LONG_MS * 3 div 4),
    ok = sockpool:checkin(Held),
    receive {starting, _} -> ok end,
    {Ms, Result} = await(Waiting),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms < ?LONG_MS * 3 div 2, Ms).

%% Many more processes than workers, each of which holds one for a moment again and again: were they preempted
%% in that moment, all others would wait for them, and each check-out would be a switch of processes.
holders_are_not_preempted(Config) ->
    Pool = ?config(pool, Config),
    Worker = fun() -> {ok, spawn_link(fun() -> receive stop -> ok end end)} end,
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => Worker, size => 100, max_overflow => 0}),
    ok = wait_until(fun() -> stat(Pool, idle) =:= 100 end),
    [hold_for_moments(Pool, Reductions) || Reductions <- [20, 40, 60]].

hold_for_moments(Pool, Reductions) ->
    Users = [spawn_link(fun() -> hold_for_a_moment(Pool, Reductions) end) || _ <- lists:seq(1, 1000)],
    Before = stat(Pool, checkouts),
    ok = wait_until(fun() -> stat(Pool, checkouts) > Before + 10000 end),
    Measured = switches(Pool, stat(Pool, checkouts) + 50000),
    lists:foreach(fun(User) -> unlink(User), exit(User, kill) end, Users),
    ok = wait_until(fun() -> stat(Pool, idle) =:= 100 end),
    ?assert(Measured < 0.3, {Reductions, Measured}).

%% Switches of processes for each check-out, until there have been so many.
switches(Pool, Until) ->
    {SwitchesBefore, 0} = erlang:statistics(context_switches),
    Before = stat(Pool, checkouts),
    ok = wait_until(fun() -> stat(Pool, checkouts) > Until end),
    {SwitchesAfter, 0} = erlang:statistics(context_switches),
    (SwitchesAfter - SwitchesBefore) / (stat(Pool, checkouts) - Before).

hold_for_a_moment(Pool, Reductions) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = reductions(Reductions),
    ok = sockpool:checkin(Conn),
    hold_for_a_moment(Pool, Reductions).

reductions(0) -> ok;
reductions(Left) -> reductions(Left - 1).

%%% The janitor.

%% Nobody starts it again.
pool_of_nobody(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Opts = (sockpool_test_server:target(Server))#{size => 1, max_overflow => 0},
    {ok, Pid} = sockpool:start_link(Pool, Opts),
    unlink(Pid),
    _ = settled(Pool),
    {ok, Conn} = sockpool:checkout(Pool),
    {Pool, Pid, Conn}.

unread(Janitor) ->
    {messages, Messages} = process_info(Janitor, messages),
    length([shut || {sockpool_shut, _} <- Messages]).

new_janitor(Old) ->
    wait_until(fun() -> lists:member(whereis(sockpool_janitor), [undefined, Old]) =:= false end),
    whereis(sockpool_janitor).

janitor_dies_with_its_message(Config) ->
    {Pool, Pid, Conn} = pool_of_nobody(Config),
    Waiters = [start(Wait) || Wait <- waits(Pool, infinity)],
    wait_until(fun() -> stat(Pool, waiting) =:= length(Waiters) end),
    Janitor = whereis(sockpool_janitor),
    true = erlang:suspend_process(Janitor),
    exit(Pid, kill),
    wait_until(fun() -> unread(Janitor) =:= 1 end),
    exit(Janitor, kill),
    [?assertEqual({error, closed}, await(Waiter)) || Waiter <- Waiters],
    wait_until(fun() -> sockpool:info(Conn) =:= {error, closed} end),
    ?assertEqual({error, closed}, sockpool:checkout(Pool)).

%% A pool that was open before its janitor died knows the new one.
janitor_of_before_is_told(Config) ->
    {Pool, Pid, Conn} = pool_of_nobody(Config),
    Janitor = whereis(sockpool_janitor),
    exit(Janitor, kill),
    New = new_janitor(Janitor),
    _ = sys:get_state(New),
    Waiter = start(fun() -> sockpool:checkout(Pool, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    true = erlang:suspend_process(New),
    exit(Pid, kill),
    wait_until(fun() -> unread(New) =:= 1 end),
    true = erlang:resume_process(New),
    ?assertEqual({error, closed}, await(Waiter)),
    %% Until here it was somebody's: a handle that nobody will use again is collected.
    _ = sockpool:discard(Conn).

%% What is in the place of a pool and is none, as one of a library that was unloaded.
janitor_and_strange_pools(Config) ->
    Key = {sockpool, ?config(pool, Config)},
    ok = persistent_term:put(Key, make_ref()),
    try
        Janitor = whereis(sockpool_janitor),
        exit(Janitor, kill),
        New = new_janitor(Janitor),
        ?assertEqual([], sys:get_state(New)),
        ?assertEqual(New, whereis(sockpool_janitor))
    after
        persistent_term:erase(Key)
    end.

%%% Partners that never answer. A long time-out and a short one, as two clocks end them.

connecting_hangs(Config, Opts) ->
    Pool = ?config(pool, Config),
    BeganMs = erlang:monotonic_time(millisecond),
    ok = sockpool:start_pool(Pool, maps:merge(#{size => 1, max_overflow => 0,
                                                     connect_timeout => 1000}, Opts)),
    Short = timed(waits(Pool, 100)),
    Long = timed(waits(Pool, ?LONG_MS)),
    assert_timed_out(Short, 100),
    assert_timed_out(Long, ?LONG_MS),
    %% The attempt ends as well, in its time, and another follows.
    wait_until(fun() -> stat(Pool, connect_failures) >= 2 end),
    AttemptsMs = erlang:monotonic_time(millisecond) - BeganMs,
    ?assert(AttemptsMs < 2 * (1000 + ?LATE_MS), {late, AttemptsMs}),
    Pool.

%% A name server that is there and says nothing, and a resolver that asks it for longer than there is time.
name_lookup_never_answers(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    Lookup = inet_db:res_option(lookup),
    Servers = inet_db:res_option(nameservers),
    Patience = inet_db:res_option(timeout),
    ok = inet_db:set_lookup([dns]),
    ok = inet_db:res_option(nameservers, [{{127, 0, 0, 1}, Port}]),
    ok = inet_db:res_option(timeout, 60000),
    try
        connecting_hangs(Config, #{host => "silent.example.org", port => 1})
    after
        ok = inet_db:res_option(timeout, Patience),
        ok = inet_db:res_option(nameservers, Servers),
        ok = inet_db:set_lookup(Lookup),
        gen_udp:close(Socket)
    end.

%% The backlog of who listens is full.
connect_never_answers(Config) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 0}]),
    {ok, Port} = inet:port(Listener),
    Full = fill(Port, []),
    _ = connecting_hangs(Config, #{host => {127, 0, 0, 1}, port => Port}),
    lists:foreach(fun gen_tcp:close/1, [Listener | Full]).

fill(Port, Sockets) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [], 200) of
        {ok, Socket} -> fill(Port, [Socket | Sockets]);
        {error, timeout} -> Sockets
    end.

handshake_never_answers(Config) ->
    Target = sockpool_test_server:target(sockpool_test_server:start(silent)),
    connecting_hangs(Config, Target#{transport => tls, tls => #{verify => none}}).

init_never_returns(Config) ->
    Target = sockpool_test_server:target(sockpool_test_server:start()),
    connecting_hangs(Config, Target#{init => fun(_) -> receive after infinity -> ok end end}).

with_peer(Config, Behaviour, Opts) ->
    Pool = ?config(pool, Config),
    Target = sockpool_test_server:target(sockpool_test_server:start(Behaviour)),
    ok = sockpool:start_pool(Pool, maps:merge(Target#{size => 4, max_overflow => 0}, Opts)),
    _ = settled(Pool),
    Pool.

on_a_conn(Pool, Use) ->
    fun() -> sockpool:transaction(Pool, Use) end.

peer_never_reads(Config) ->
    Data = binary:copy(<<"x">>, 30000000),
    Pool = with_peer(Config, sink, #{send_timeout => 300}),
    [assert_holds([on_a_conn(Pool, fun(Conn) -> sockpool:send(Conn, Data, Timeout) end),
                   fun() -> sockpool:request(Pool, Data, 1, Timeout) end], Timeout)
     || Timeout <- [100, ?LONG_MS]],
    assert_holds([on_a_conn(Pool, fun(Conn) -> sockpool:send(Conn, Data) end)], 300).

peer_never_sends(Config) ->
    Pool = with_peer(Config, silent, #{size => 5, packet => line}),
    Default = timed([on_a_conn(Pool, fun(Conn) -> sockpool:recv(Conn, 1) end)]),
    [assert_holds([on_a_conn(Pool, fun(Conn) -> sockpool:recv(Conn, 1, Timeout) end),
                   on_a_conn(Pool, fun(Conn) -> sockpool:recv(Conn, 0, Timeout) end),
                   fun() -> sockpool:request(Pool, "x", 1, Timeout) end,
                   fun() -> sockpool:request(Pool, "x", packet, Timeout) end], Timeout)
     || Timeout <- [100, ?LONG_MS]],
    assert_timed_out(Default, 5000).
