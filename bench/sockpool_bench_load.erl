%% @doc The load: N processes that repeat a peer's operation for a time, or do it once each.
%%
%% Each measurement runs in an arena, a process of its own that everything started is linked to,
%% with an echo server of its own. Processes enter (connect, if they have sockets) first; the
%% clock starts when all of them stand ready.
-module(sockpool_bench_load).

-export([repeat/3, burst/3, isolated/1, measurement/4]).
-export_type([measurement/0, target/0, outcome/0]).

-type target() :: #{transport := sockpool_bench_socket:transport(),
                    size := pos_integer(),
                    max_overflow := non_neg_integer(),
                    bytes := pos_integer(),
                    server_port => inet:port_number(),
                    %% of a server that is there already
                    port => inet:port_number(),
                    node => node(),
                    load => float()}.
-type measurement() :: #{ops := non_neg_integer(),
                         errors := #{term() => pos_integer()},
                         seconds := float(),
                         ops_per_s := float(),
                         p50_us := float() | undefined,
                         p99_us := float() | undefined,
                         %% not of the C programs
                         p999_us => float() | undefined,
                         %% the share of those above 100 ms
                         late => float(),
                         max_us := float() | undefined,
                         %% what only some peers count
                         atom() => term()}.
-type outcome() :: {ok, measurement()} | {skipped, string()} | {failed, term()}.
-type repeat_options() :: #{processes := pos_integer(),
                            warmup_ms := pos_integer(),
                            window_ms := pos_integer(),
                            %% one operation in so many is timed; all are counted
                            timed_every := pos_integer(),
                            %% each process begins an operation only so often, and all are timed; or as often as it can
                            pace_ms => pos_integer()}.

%% Descriptors that the VM itself needs.
-define(SPARE_DESCRIPTORS, 100).
-define(LATE_US, 100000).
-define(LIMIT_MS, 60000).
-define(ARENA_LIMIT_MS, (2 * ?LIMIT_MS)).

%% @doc Every process repeats the operation until the time is over. Operations are those that
%% ended inside the window; latencies go on until the last process has its last reply, so that
%% one that starves is seen; errors are those of the whole run, warm-up included.
-spec repeat(sockpool_bench_peers:name(), target(), repeat_options()) -> outcome().
repeat(raw, Target, #{processes := Processes, warmup_ms := WarmupMs, window_ms := WindowMs}) ->
    raw(Target, Processes, [WarmupMs, WindowMs]);
repeat(Name, Target, Options) when Name =:= redis_benchmark; Name =:= redis_benchmark_16 ->
    sockpool_bench_redis:limit(Name, Target, Options);
repeat(Name, Target, Options = #{processes := Processes}) ->
    in_arena(Name, Target, Processes, fun(Enter) -> repeat_in_arena(Enter, Options) end).

%% @doc All processes are released at once and do one operation each. They live on until all of
%% them are through: what a pool does when its callers die is not part of it.
-spec burst(sockpool_bench_peers:name(), target(), Processes :: pos_integer()) -> outcome().
burst(raw, Target, Processes) ->
    raw(Target, Processes, ["ops", Processes]);
burst(Name, Target, Processes) ->
    in_arena(Name, Target, Processes, fun(Enter) -> burst_in_arena(Enter, Processes) end).

%% The limit for a pool is that of as many connections as it has, however many processes wait.
raw(Target = #{size := Size, max_overflow := Overflow, bytes := Bytes}, Processes, Rest) ->
    Server = #{port := Port} = start_server(Target),
    Connections = min(Processes, Size + Overflow),
    Result = sockpool_bench_server:raw_client([Port, Connections, Bytes | Rest]),
    ok = sockpool_bench_server:stop(Server),
    case Result of
        {ok, Json} -> {ok, from_json(Json)};
        {error, Reason} -> {failed, Reason}
    end.

from_json(Json) ->
    maps:fold(fun(Key, Value, Measurement) ->
                      Measurement#{binary_to_existing_atom(Key) => Value}
              end, #{}, Json).

%% A node is there already; a worker has none.
start_server(#{transport := Transport}) when Transport =:= node; Transport =:= worker ->
    #{port => 0};
start_server(#{port := Port}) ->
    #{port => Port};
start_server(Target) ->
    sockpool_bench_server:start(maps:get(transport, Target), maps:get(server_port, Target, 0)).

%% Arena

in_arena(Name, Target, Processes, Measure) ->
    Peer = #{sockets := Sockets} = sockpool_bench_peers:peer(Name),
    case missing_descriptors(Sockets(Target, Processes)) of
        none ->
            isolated(fun() -> arena(Peer, Target, Measure) end);
        Why ->
            {skipped, Why}
    end.

%% @doc Measures in a process of its own, whose failure is an outcome.
-spec isolated(fun(() -> measurement())) -> outcome().
isolated(Measure) ->
    {Arena, Monitor} = spawn_monitor(fun() -> exit({done, Measure()}) end),
    receive
        {'DOWN', Monitor, process, Arena, {done, Measurement}} -> {ok, Measurement};
        {'DOWN', Monitor, process, Arena, Reason} -> {failed, Reason}
    after ?ARENA_LIMIT_MS ->
        exit(Arena, kill),
        receive {'DOWN', Monitor, process, Arena, _} -> {failed, never_ended} end
    end.

missing_descriptors(Sockets) ->
    Needed = Sockets + ?SPARE_DESCRIPTORS,
    case string:trim(os:cmd("ulimit -n")) of
        "unlimited" -> none;
        Text ->
            case list_to_integer(Text) of
                Limit when Limit >= Needed -> none;
                Limit -> lists:flatten(io_lib:format("needs ~b descriptors, the limit is ~b",
                                                     [Needed, Limit]))
            end
    end.

arena(Peer = #{start := Start, enter := Enter, stop := Stop}, Target0, Measure) ->
    %% Its timers must not queue behind thousands of runnable processes.
    process_flag(priority, high),
    Server = #{port := Port} = start_server(Target0),
    Target = Target0#{port => Port},
    Shared = Start(Target),
    try
        Measurement = Measure(fun(Index) -> Enter(Shared, Target, payload(Index, Target)) end),
        maps:merge(Measurement, tally(Peer, Shared))
    after
        Stop(Shared),
        stop_server(Server)
    end.

stop_server(#{handle := _} = Server) -> sockpool_bench_server:stop(Server);
stop_server(#{}) -> ok.

tally(#{tally := Tally}, Shared) -> Tally(Shared);
tally(_, _) -> #{}.

%% No two processes send the same, so that a reply that went astray is noticed.
payload(Index, #{bytes := Bytes}) when Bytes >= 8 ->
    <<Index:64, (binary:copy(<<"e">>, Bytes - 8))/binary>>.

%% Repeating

repeat_in_arena(Enter, #{processes := Processes, warmup_ms := WarmupMs, window_ms := WindowMs,
                         timed_every := Every} = Options) ->
    Histogram = sockpool_bench_histogram:new(),
    Errors = ets:new(errors, [public, {write_concurrency, true}]),
    Stop = atomics:new(1, []),
    Work = case Options of
               #{pace_ms := PaceMs} -> fun(Operation) -> paced(Operation, Histogram, Errors, Stop, first_turn(PaceMs), PaceMs) end;
               #{} -> fun(Operation) -> loop(Operation, Histogram, Errors, Stop, Every - 1) end
           end,
    Pids = enter_all(Processes, Enter, Work),
    release(Pids),
    timer:sleep(WarmupMs),
    Before = sockpool_bench_histogram:snapshot(Histogram),
    OpsBefore = sockpool_bench_histogram:operations(Histogram),
    Start = erlang:monotonic_time(),
    timer:sleep(WindowMs),
    OpsAfter = sockpool_bench_histogram:operations(Histogram),
    End = erlang:monotonic_time(),
    ok = atomics:put(Stop, 1, 1),
    await_all(Pids),
    measurement(OpsAfter - OpsBefore, sockpool_bench_histogram:since(Before, Histogram),
                counted(Errors), End - Start).

%% One operation is timed, those up to the next timed one only counted, together: where an
%% operation takes a fraction of a microsecond, measuring each would cost as much as the operation.
loop(Operation, Histogram, Errors, Stop, Untimed) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            timed(Operation, Histogram, Errors),
            Done = untimed(Operation, Errors, Untimed, 0),
            sockpool_bench_histogram:count(Histogram, Done),
            loop(Operation, Histogram, Errors, Stop, Untimed)
    end.

%% A loop of its own: what the other one does besides the operation is a part of what is compared.
paced(Operation, Histogram, Errors, Stop, DueMs, PaceMs) ->
    Next = await_turn(DueMs, PaceMs),
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            timed(Operation, Histogram, Errors),
            paced(Operation, Histogram, Errors, Stop, Next, PaceMs)
    end.

%% The processes do not begin at once.
first_turn(PaceMs) -> erlang:monotonic_time(millisecond) + rand:uniform(PaceMs).

%% A turn that was missed is not made up for: then one slow operation would make many late.
await_turn(DueMs, PaceMs) ->
    LateMs = erlang:monotonic_time(millisecond) - DueMs,
    receive after max(0, -LateMs) -> ok end,
    DueMs + PaceMs * (1 + max(0, LateMs) div PaceMs).

untimed(_, _, 0, Done) ->
    Done;
untimed(Operation, Errors, Left, Done) ->
    case Operation() of
        ok ->
            untimed(Operation, Errors, Left - 1, Done + 1);
        {error, Reason} ->
            count_error(Errors, Reason),
            untimed(Operation, Errors, Left - 1, Done)
    end.

timed(Operation, Histogram, Errors) ->
    Start = erlang:monotonic_time(),
    case Operation() of
        ok -> sockpool_bench_histogram:record(Histogram, erlang:monotonic_time() - Start);
        {error, Reason} -> count_error(Errors, Reason)
    end.

count_error(Errors, Reason) ->
    _ = ets:update_counter(Errors, Reason, 1, {Reason, 0}),
    ok.

%% Once each

burst_in_arena(Enter, Processes) ->
    Histogram = sockpool_bench_histogram:new(),
    Errors = ets:new(errors, [public, {write_concurrency, true}]),
    Before = sockpool_bench_histogram:snapshot(Histogram),
    Left = atomics:new(1, []),
    ok = atomics:put(Left, 1, Processes),
    Arena = self(),
    Pids = enter_all(Processes, Enter,
                     fun(Operation) ->
                             timed(Operation, Histogram, Errors),
                             atomics:sub_get(Left, 1, 1) =:= 0 andalso
                                 (Arena ! {last_ended, erlang:monotonic_time()}),
                             receive leave -> ok end
                     end),
    Start = erlang:monotonic_time(),
    release(Pids),
    End = receive
              {last_ended, At} -> At
          after ?LIMIT_MS ->
              error({burst_not_over, {left, atomics:get(Left, 1)}})
          end,
    lists:foreach(fun(Pid) -> Pid ! leave end, Pids),
    await_all(Pids),
    measurement(sockpool_bench_histogram:operations(Histogram),
                sockpool_bench_histogram:since(Before, Histogram), counted(Errors), End - Start).

%% Processes

enter_all(Processes, Enter, Work) ->
    Arena = self(),
    Pids = [spawn_link(fun() -> worker(Arena, Index, Enter, Work) end)
            || Index <- lists:seq(1, Processes)],
    lists:foreach(fun(Pid) -> receive {ready, Pid} -> ok end end, Pids),
    Pids.

worker(Arena, Index, Enter, Work) ->
    Operation = Enter(Index),
    Arena ! {ready, self()},
    receive go -> ok end,
    Work(Operation).

release(Pids) ->
    lists:foreach(fun(Pid) -> Pid ! go end, Pids).

await_all(Pids) ->
    Monitors = [erlang:monitor(process, Pid) || Pid <- Pids],
    lists:foreach(fun(Monitor) ->
                          receive {'DOWN', Monitor, process, _, _} -> ok
                          after ?LIMIT_MS -> error(worker_never_ended)
                          end
                  end, Monitors).

counted(Errors) ->
    maps:from_list(ets:tab2list(Errors)).

%% @doc From what was counted, the latencies and the time that it took.
-spec measurement(Ops :: non_neg_integer(), sockpool_bench_histogram:snapshot(),
                  Errors :: #{term() => pos_integer()}, Native :: integer()) -> measurement().
measurement(Ops, Latencies, Errors, Native) ->
    Seconds = erlang:convert_time_unit(Native, native, nanosecond) / 1.0e9,
    #{ops => Ops,
      errors => Errors,
      seconds => Seconds,
      ops_per_s => Ops / Seconds,
      p50_us => sockpool_bench_histogram:percentile(0.50, Latencies),
      p99_us => sockpool_bench_histogram:percentile(0.99, Latencies),
      p999_us => sockpool_bench_histogram:percentile(0.999, Latencies),
      late => sockpool_bench_histogram:share_above(?LATE_US, Latencies),
      max_us => sockpool_bench_histogram:percentile(1.0, Latencies)}.
