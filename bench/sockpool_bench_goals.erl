%% @doc What the benchmark must show: each figure beside its floor and its aim.
-module(sockpool_bench_goals).

-export([judge/2]).
-export_type([verdict/0]).

-type verdict() :: #{goal := binary(),
                     values := [number()],    % one a round
                     median := number() | undefined,
                     floor := number(),
                     aim := number(),
                     better := more | less,
                     verdict := aim_met | floor_met | missed | not_measured}.
-type goal() :: {Text :: string(), Values :: [number()], more | less,
                 Floor :: number(), Aim :: number()}.

%% @doc Judges every goal of these runs; one that has no figure is `not_measured'.
-spec judge(Runs :: [atom()], [sockpool_bench_rounds:series()]) -> [verdict()].
judge(Runs, Results) ->
    [verdict(Goal) || Run <- Runs, Goal <- goals(Run, Results)].

verdict({Text, Values, Better, Floor, Aim}) ->
    Median = sockpool_bench_rounds:median(Values),
    #{goal => list_to_binary(Text), values => Values, median => Median, floor => Floor, aim => Aim,
      better => Better, verdict => verdict(Median, Better, Floor, Aim)}.

verdict(undefined, _, _, _) -> not_measured;
verdict(Value, more, _, Aim) when Value >= Aim -> aim_met;
verdict(Value, more, Floor, _) when Value >= Floor -> floor_met;
verdict(Value, less, _, Aim) when Value =< Aim -> aim_met;
verdict(Value, less, Floor, _) when Value =< Floor -> floor_met;
verdict(_, _, _, _) -> missed.

-spec goals(Run :: atom(), [sockpool_bench_rounds:series()]) -> [goal()].
goals(checkout, Results) ->
    [goal("checkout+checkin, ~b processes: x poolboy", N, Floor, Aim,
          ratios(checkout, {sockpool_checkout, N}, {poolboy_checkout, N}, Results))
     || {N, Floor, Aim} <- [{1, 3, 5}, {62, 6, 10}, {100, 6, 10}, {1000, 6, 10}]] ++
    [{"checkout+checkin: two processes x one",
      ratios(checkout, {sockpool_checkout, 2}, {sockpool_checkout, 1}, Results), more, 1.3, 1.7}];
goals(counting, Results) ->
    [goal("checkout+checkin, ~b processes: x without histograms", N, 0.95, 0.97,
          ratios(counting, {sockpool_times, N}, {sockpool_no_times, N}, Results))
     || N <- [1, 62, 1000]];
goals(workers, Results) ->
    [goal("workers, checkout+checkin, ~b processes: x poolboy", N, Floor, Aim,
          ratios(workers, {sockpool_worker_checkout, N}, {poolboy_worker_checkout, N}, Results))
     || {N, Floor, Aim} <- [{1, 3, 5}, {62, 6, 10}, {100, 6, 10}, {1000, 6, 10}]] ++
    [goal("workers, checkout+checkin by sockpool_poolboy, ~b processes: x poolboy", N, 4, 4,
          ratios(workers, {sockpool_poolboy_checkout, N}, {poolboy_worker_checkout, N}, Results))
     || N <- [1, 62, 100, 1000]] ++
    [goal("workers, transaction with a call, ~b processes: x poolboy", N, 1.5, 1.5,
          ratios(workers_call, {sockpool_worker_transaction, N}, {poolboy_worker_transaction, N}, Results))
     || N <- [62, 1000]] ++
    [{"100 workers that take 2 s to start, at once: s until all are there",
      values(seconds, workers_start, {sockpool_worker_starts, 1}, Results), less, 2.5, 2.5}];
goals(echo, Results) ->
    [goal("echo by request/4, ~b processes: x poolboy", N, Floor, 2.2,
          ratios(echo, {sockpool_request, N}, {poolboy, N}, Results))
     || {N, Floor} <- [{62, 1.8}, {100, 1.8}, {620, 1.6}, {1000, 1.6}, {6200, 1.6}]] ++
    [goal("echo by checkout/send/recv/checkin, ~b processes: x poolboy", N, Floor, Floor,
          ratios(echo, {sockpool_lease, N}, {poolboy, N}, Results))
     || {N, Floor} <- [{62, 1.7}, {100, 1.7}, {620, 1.5}, {1000, 1.5}, {6200, 1.5}]] ++
    [{"echo by request/4, 100 processes: x gen_tcp socket per process",
      ratios(echo, {sockpool_request, 100}, {gen_tcp, 100}, Results), more, 1.1, 1.1},
     {"echo by request/4, 100 processes: x raw C client",
      ratios(echo, {sockpool_request, 100}, {raw, 100}, Results), more, 0.5, 0.6},
     {"echo by request/4: throughput at 6200 processes x that at 100",
      ratios(echo, {sockpool_request, 6200}, {sockpool_request, 100}, Results), more, 0.65, 0.85},
     {"echo by request/4, 6200 processes: p99 x the ideal wait",
      waits(p99_us, echo, sockpool_request, 6200, Results), less, 2.5, 1.5},
     {"echo by request/4, 6200 processes: max x the ideal wait",
      waits(max_us, echo, sockpool_request, 6200, Results), less, 4, 4}];
goals(pipeline, Results) ->
    [goal("pipelined echo by request/4, ~b processes: x poolboy", N, Floor, Aim,
          ratios(pipeline, {sockpool_piped, N}, {poolboy, N}, Results))
     || {N, Floor, Aim} <- [{62, 10, 20}, {100, 10, 20}, {1000, 20, 50}, {6200, 20, 50}]] ++
    [goal("pipelined echo by request/4, ~b processes: x raw C client one at a time", N, 3, 6,
          ratios(pipeline, {sockpool_piped, N}, {raw, N}, Results))
     || N <- [62, 100, 1000, 6200]] ++
    [goal("pipelined echo by request/4, ~b processes: x request/4 without", N, 0.95, 1,
          ratios(pipeline, {sockpool_piped, N}, {sockpool_request, N}, Results))
     || N <- [1, 10]] ++
    [goal("pipelined echo by request/4, ~b processes: p99 of poolboy x its p99", N, 10, 10,
          p99_ratios(pipeline, {poolboy, N}, {sockpool_piped, N}, Results))
     || N <- [1000, 6200]] ++
    [{"pipelined echo by request/4, 6200 processes: p99 x the ideal wait",
      waits(p99_us, pipeline, sockpool_piped, 6200, Results), less, 2.5, 1.5}];
goals(ageing, Results) ->
    P99 = fun(Peer) -> values(wait_p99_us, ageing_70, {Peer, sockpool_bench_ageing:processes()}, Results) end,
    [{"connections that live for 2 s, 70 % load: p99 of the wait x that of connections without an end",
      quotients(P99(sockpool_ageing), P99(sockpool_ageless)), less, 1.1, 1.1},
     {"closed at check-in when too old instead: p99 of the wait x that with max_lifetime",
      quotients(P99(close_then_open), P99(sockpool_ageing)), more, 1, 2},
     {"connections that live for 2 s, 95 % load: handed out when older than that and 200 ms",
      values(handed_late, ageing_95, {sockpool_ageing, sockpool_bench_ageing:processes()}, Results), less, 0, 0}];
%% The inverse of throughput is time.
goals(redis, Results) ->
    [{"redis, 100000 SET and GET by 1000 processes: time x eredis with one connection",
      ratios(redis_whole, {eredis_whole, 1000}, {sockpool_redis_whole, 1000}, Results), less, 0.5, 0.5}];
goals(headline, Results) ->
    [{"62 ports, 6200 operations at once: succeeded through sockpool" ++ Words,
      counts(ops, Peer, Results), more, 6200, 6200}
     || {Peer, Words} <- [{sockpool_request, ""}, {sockpool_piped, ", pipelined"}]] ++
    [{"62 ports, 6200 operations at once: errors through sockpool" ++ Words,
      counts(errors, Peer, Results), less, 0, 0}
     || {Peer, Words} <- [{sockpool_request, ""}, {sockpool_piped, ", pipelined"}]] ++
    [{"62 ports, 6200 operations at once: pipelined, x connect per request",
      ratios(headline, {sockpool_piped, 6200}, {connect, 6200}, Results), more, 100, 100},
     {"62 ports, 6200 operations at once: eaddrnotavail by connect per request",
      counts(eaddrnotavail, connect, Results), more, 1, 1}];
goals(tls, Results) ->
    tls_echo(Results) ++ tls_handshakes(Results) ++
    [{"100 TLS connections: MB that the VM's allocators gained",
      megabytes(vm_bytes, Results), less, 3, 3},
     {"100 TLS connections: MB that the kernel sees more",
      megabytes(os_bytes, Results), less, 3, 3},
     {"200 TLS handshakes at once: p99 by which a timer is late, ms",
      [Us / 1000 || Us <- values(p99_us, tls_timer, {sockpool_open, 200}, Results)], less, 5, 5}];
goals(c_node, Results) ->
    [goal("calls of stats, C node, ~b processes: x a gen_server on an Erlang node", N, 1, 1,
          ratios(c_node, {sockpool_c_stats, N}, {gen_server_stats, N}, Results))
     || N <- [1, 8]] ++
    [goal("echo by request/4 through the C node, ~b processes: x those calls of a gen_server", N, 0.6, 0.6,
          ratios(c_node, {sockpool_c_request, N}, {gen_server_stats, N}, Results))
     || N <- [1, 8]] ++
    [{"joining the C node beside 1000 silent connections: p99 above that without them, ms",
      above(p99_us, c_node_join, {join_beside_silent, 1}, {join, 1}, Results), less, 50, 50}];
goals(c_pipeline, Results) ->
    [goal("pipelined echo by request/4 through the C node, ~b processes: x without", N, Floor, Floor,
          ratios(c_pipeline, {sockpool_c_piped, N}, {sockpool_c_request, N}, Results))
     || {N, Floor} <- [{1, 0.95}, {62, 2}]];
goals(head_of_line, Results) ->
    [{lists:flatten(io_lib:format("calls beside messages of 64 MiB, ~b processes: p99 of erpc x that of ~s",
                                  [N, Words])),
      p99_ratios(head_of_line, {erpc, N}, {Peer, N}, Results), more, 20, 20}
     || N <- [1, 4], {Peer, Words} <- [{sockpool_call, "a pool"},
                                       {sockpool_node_lease, "one connection"}]];
goals(_, _) ->
    [].

%% Milliseconds, from microseconds.
above(What, Run, Peer, Other, Results) ->
    case {values(What, Run, Peer, Results), values(What, Run, Other, Results)} of
        {More, Less} when length(More) =:= length(Less) ->
            lists:zipwith(fun(A, B) -> (A - B) / 1000 end, More, Less);
        _ -> []
    end.

p99_ratios(Run, Peer, Other, Results) ->
    quotients(values(p99_us, Run, Peer, Results), values(p99_us, Run, Other, Results)).

%% Round by round; none where one of the two was not measured in each.
quotients(As, Bs) when length(As) =:= length(Bs) -> lists:zipwith(fun(A, B) -> A / B end, As, Bs);
quotients(_, _) -> [].

tls_echo(Results) ->
    [goal("pipelined TLS echo by request/4, ~b processes: x poolboy", N, 8, 20,
          ratios(tls_echo, {sockpool_piped, N}, {poolboy, N}, Results))
     || N <- [100, 1000]] ++
    [goal("TLS echo by request/4, ~b processes: x OTP ssl per process", N, 1.8, 1.8,
          ratios(tls_echo, {sockpool_request, N}, {ssl, N}, Results))
     || N <- [10, 100]] ++
    [goal("TLS echo by request/4, ~b processes: x poolboy", N, 3, 3,
          ratios(tls_echo, {sockpool_request, N}, {poolboy, N}, Results))
     || N <- [100, 1000]] ++
    [goal("TLS echo of 1 MiB, ~b processes: x OTP ssl per process", N, 1.5, 1.5,
          ratios(tls_bulk, {sockpool_request, N}, {ssl, N}, Results))
     || N <- [1, 4]].

tls_handshakes(Results) ->
    [goal("handshake and request, ~b processes: resumed x full", N, 1.4, 1.4,
          ratios(tls_handshake, {sockpool_resumed, N}, {sockpool_full, N}, Results))
     || N <- [1, 10]] ++
    [{"handshake and request, 1 process: median of " ++ Kind ++ ", ms",
      [Us / 1000 || Us <- values(p50_us, tls_handshake, {Peer, 1}, Results)], less, 5, 5}
     || {Kind, Peer} <- [{"full ones", sockpool_full}, {"resumed ones", sockpool_resumed}]] ++
    [goal("reconnects with session_reuse that resumed, ~b processes: %", N, 95, 95,
          resumed_percent({sockpool_resumed, N}, Results))
     || N <- [1, 10]] ++
    [{"reconnects without session_reuse that resumed, 10 processes: %",
      resumed_percent({sockpool_full, 10}, Results), less, 0, 0}].

goal(Format, Processes, Floor, Aim, Values) ->
    {lists:flatten(io_lib:format(Format, [Processes])), Values, more, Floor, Aim}.

ratios(Run, {Peer, Processes}, {OverPeer, OverProcesses}, Results) ->
    sockpool_bench_rounds:ratios(#{run => Run, peer => Peer, processes => Processes},
                                 #{run => Run, peer => OverPeer, processes => OverProcesses},
                                 Results).

%% With N processes and a throughput of T, a fair queue makes each operation last N / T.
waits(Percentile, Run, Peer, Processes, Results) ->
    [Wait / (Processes / OpsPerSecond * 1.0e6)
     || #{Percentile := Wait, ops_per_s := OpsPerSecond}
            <- measured(#{run => Run, peer => Peer, processes => Processes}, Results),
        Wait =/= undefined].

counts(What, Peer, Results) ->
    [count(What, M) || M <- measured(#{run => headline, peer => Peer, processes => 6200}, Results)].

count(ops, #{ops := Ops}) -> Ops;
count(errors, #{errors := Errors}) -> lists:sum(maps:values(Errors));
count(Reason, #{errors := Errors}) -> maps:get(Reason, Errors, 0).

values(What, Run, {Peer, Processes}, Results) ->
    [Value || #{What := Value} <- measured(#{run => Run, peer => Peer, processes => Processes},
                                           Results)].

megabytes(What, Results) ->
    [Bytes / 1.0e6 || Bytes <- values(What, tls_memory, {sockpool_open, 100}, Results)].

resumed_percent({Peer, Processes}, Results) ->
    [100 * Resumed / (Resumed + Full)
     || #{resumed := Resumed, full := Full}
            <- measured(#{run => tls_handshake, peer => Peer, processes => Processes}, Results),
        Resumed + Full > 0].

measured(Key, Results) ->
    case sockpool_bench_rounds:find(Key, Results) of
        {ok, Series} -> sockpool_bench_rounds:measurements(Series);
        none -> []
    end.
