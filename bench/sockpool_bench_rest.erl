%% @doc What pools cost that nobody uses: 1,000 of them with a connection each, and 10,000 without a name, one after the other.
-module(sockpool_bench_rest).

-export([run/0]).

-define(POOLS, 1000).
-define(WINDOW_MS, 5000).
%% Of a core.
-define(SHARE, 0.001).
-define(START_MS, 2000).
-define(COMERS, 10000).

-spec run() -> [sockpool_bench_report:check()].
run() ->
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn_link(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    Options = #{host => "127.0.0.1", port => Port},
    Checks = at_rest(Options#{size => 1}) ++ come_and_go(Options#{size => 0}),
    true = unlink(Server),
    exit(Server, kill),
    Checks.

accept(Listener) ->
    {ok, _} = gen_tcp:accept(Listener),
    accept(Listener).

at_rest(Options) ->
    Begun = erlang:monotonic_time(millisecond),
    Pools = [started(Options) || _ <- lists:seq(1, ?POOLS)],
    StartMs = erlang:monotonic_time(millisecond) - Begun,
    Processes = [Process || {{sockpool, _}, Process, _, _} <- supervisor:which_children(sockpool_sup)],
    ok = all_up(Pools),
    ok = until_at_rest(Processes),
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    Quiet = cpu_ms(fun() -> timer:sleep(?WINDOW_MS) end),
    Timers = length([Process || Process <- Processes, not is_at_rest(Process)]),
    lists:foreach(fun(Pool) -> ok = sockpool:stop_pool(Pool) end, Pools),
    %% A VM without them has its own housekeeping.
    Without = cpu_ms(fun() -> timer:sleep(?WINDOW_MS) end),
    Share = max(0, Quiet - Without) / ?WINDOW_MS,
    [#{run => rest, value => StartMs, ok => StartMs < ?START_MS,
       text => <<"ms to start 1000 pools of a connection each (less than 2000)">>},
     #{run => rest, value => Timers, ok => Timers =:= 0, text => <<"timers of theirs at rest (none)">>},
     #{run => rest, value => Share, ok => Share < ?SHARE,
       text => <<"of a core they take at rest, beyond what the VM takes without them (less than 0.001)">>}].

started(Options) ->
    {ok, Pool} = sockpool:start_pool(Options),
    Pool.

all_up([]) ->
    ok;
all_up([Pool | Rest] = Pools) ->
    case sockpool:stats(Pool) of
        {ok, #{idle := 1}} -> all_up(Rest);
        _ -> timer:sleep(10), all_up(Pools)
    end.

until_at_rest(Processes) ->
    case lists:all(fun is_at_rest/1, Processes) of
        true -> ok;
        false -> timer:sleep(100), until_at_rest(Processes)
    end.

is_at_rest(Process) ->
    lists:all(fun({soon, _}) -> false; ({later, _}) -> false; (going) -> false; (_) -> true end,
              tuple_to_list(sys:get_state(Process))).

%% Of all threads of this VM, in steps of 10 ms.
cpu_ms(Fun) ->
    Before = ticks(),
    _ = Fun(),
    10 * (ticks() - Before).

ticks() ->
    {ok, Stat} = file:read_file("/proc/self/stat"),
    [_Name, Behind] = binary:split(Stat, <<") ">>),
    Fields = binary:split(Behind, <<" ">>, [global]),
    binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields)).

come_and_go(Options) ->
    Before = held(),
    Begun = erlang:monotonic_time(millisecond),
    {Pid, Monitor} = spawn_monitor(fun() ->
        lists:foreach(fun(_) -> ok = sockpool:stop_pool(started(Options)) end, lists:seq(1, ?COMERS))
    end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    Ms = erlang:monotonic_time(millisecond) - Begun,
    timer:sleep(2000),
    After = held(),
    [#{run => rest, value => ?COMERS * 1000 div Ms, ok => true,
       text => <<"pools without a name started and stopped in a second, one after the other (for information)">>},
     #{run => rest, value => lists:sum([max(0, A - B) || {A, B} <- lists:zip(After, Before)]),
       ok => lists:all(fun({A, B}) -> A =< B end, lists:zip(After, Before)),
       text => <<"pools, processes, tables, persistent terms, descriptors that 10000 of them leave (none)">>}].

held() ->
    lists:foreach(fun erlang:garbage_collect/1, erlang:processes()),
    {ok, Descriptors} = file:list_dir("/proc/self/fd"),
    [sockpool_nif:count(pools), length(erlang:processes()), length(ets:all()), maps:get(count, persistent_term:info()),
     length(Descriptors)].
