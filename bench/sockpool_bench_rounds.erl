%% @doc Alternating rounds: A, B, C, A, B, C, ... so that a slow minute of the machine hits all.
%%
%% A series is what one peer did at one number of processes and connections, round by round. Ratios
%% are taken inside a round first; their median is the figure.
-module(sockpool_bench_rounds).

-export([alternate/4, find/2, measurements/1, ratios/3, summary/2, median/1]).
-export_type([series/0, cell/0, summary/0]).

-type key() :: #{run => atom(), peer => sockpool_bench_peers:name(),
                 processes => pos_integer(), connections => pos_integer()}.
-type series() :: #{run := atom(), peer := sockpool_bench_peers:name(),
                    processes := pos_integer(), connections := pos_integer(),
                    outcomes := [sockpool_bench_load:outcome()]}.
-type cell() :: #{processes := pos_integer(), target := sockpool_bench_load:target(),
                  peers := [sockpool_bench_peers:name()]}.
-type measure() :: fun((sockpool_bench_peers:name(), cell()) -> sockpool_bench_load:outcome()).
-type summary() :: #{atom() => term()}.

%% @doc Measures every peer of every cell once a round.
-spec alternate(Run :: atom(), [cell()], Rounds :: pos_integer(), measure()) -> [series()].
alternate(Run, Cells, Rounds, Measure) ->
    ByRound = [round(Run, Cells, {Round, Rounds}, Measure) || Round <- lists:seq(1, Rounds)],
    [(hd(Same))#{outcomes => [Outcome || #{outcomes := [Outcome]} <- Same]}
     || Same <- transpose(ByRound)].

round(Run, Cells, Round, Measure) ->
    lists:flatmap(
      fun(Cell = #{peers := Peers}) ->
              sockpool_bench_report:progress_cell(Run, Round, Cell),
              Series = [one(Run, Peer, Cell, Measure) || Peer <- Peers],
              sockpool_bench_report:progress_end(),
              Series
      end, Cells).

one(Run, Peer, Cell = #{processes := Processes, target := Target}, Measure) ->
    Outcome = Measure(Peer, Cell),
    sockpool_bench_report:progress_outcome(Peer, Outcome),
    #{size := Size, max_overflow := Overflow} = Target,
    #{run => Run, peer => Peer, processes => Processes, connections => Size + Overflow,
      outcomes => [Outcome]}.

transpose([[] | _]) -> [];
transpose(Lists) -> [[hd(L) || L <- Lists] | transpose([tl(L) || L <- Lists])].

%% @doc The first series that agrees with the key in all that the key says.
-spec find(key(), [series()]) -> {ok, series()} | none.
find(Key, Results) ->
    case [S || S <- Results, maps:with(maps:keys(Key), S) =:= Key] of
        [Series | _] -> {ok, Series};
        [] -> none
    end.

%% @doc The rounds that could be measured.
-spec measurements(series()) -> [sockpool_bench_load:measurement()].
measurements(#{outcomes := Outcomes}) ->
    [M || {ok, M} <- Outcomes].

%% @doc Throughput of one series over that of another, round by round.
-spec ratios(key(), key(), [series()]) -> [float()].
ratios(Key, OverKey, Results) ->
    case {find(Key, Results), find(OverKey, Results)} of
        {{ok, Series}, {ok, Over}} -> throughput_ratios(Series, Over);
        _ -> []
    end.

throughput_ratios(#{outcomes := Outcomes}, #{outcomes := OverOutcomes}) ->
    [A / B || {{ok, #{ops_per_s := A}}, {ok, #{ops_per_s := B}}}
                  <- lists:zip(Outcomes, OverOutcomes), B > 0].

%% @doc One row: medians of throughput, p50, p99; the worst maximum; all operations and errors.
-spec summary(series(), [series()]) -> summary().
summary(Series = #{outcomes := Outcomes}, Results) ->
    Row = maps:without([outcomes], Series),
    case measurements(Series) of
        [] ->
            Row#{status => status(hd(Outcomes))};
        Measured ->
            Row#{status => status(Outcomes, Measured),
                 ops => lists:sum(values(ops, Measured)),
                 errors => merge_errors(values(errors, Measured)),
                 ops_per_s => median(values(ops_per_s, Measured)),
                 p50_us => median(values(p50_us, Measured)),
                 p99_us => median(values(p99_us, Measured)),
                 max_us => worst(values(max_us, Measured)),
                 rounds => Measured,
                 to_poolboy => ratio_to([poolboy, poolboy_checkout, poolboy_worker_checkout, poolboy_worker_transaction,
                                         eredis_poolboy], Series, Results),
                 to_limit => ratio_to([raw, worker_call, redis_benchmark_16], Series, Results)}
    end.

status(Outcomes, Measured) when length(Outcomes) =:= length(Measured) -> measured;
status(Outcomes, _) -> status(hd([O || O <- Outcomes, element(1, O) =/= ok])).

status({skipped, Why}) -> {skipped, Why};
status({failed, Reason}) -> {failed, Reason}.

ratio_to(References, Series, Results) ->
    Key = maps:with([run, processes, connections], Series),
    Found = [Over || Peer <- References, {ok, Over} <- [find(Key#{peer => Peer}, Results)]],
    case Found of
        [Over | _] -> median(throughput_ratios(Series, Over));
        [] -> undefined
    end.

values(Key, Measured) ->
    [Value || #{Key := Value} <- Measured, Value =/= undefined].

merge_errors(Maps) ->
    lists:foldl(fun(Errors, All) ->
                        maps:fold(fun(Reason, Count, Acc) ->
                                          maps:update_with(Reason, fun(N) -> N + Count end,
                                                           Count, Acc)
                                  end, All, Errors)
                end, #{}, Maps).

worst([]) -> undefined;
worst(Values) -> lists:max(Values).

-spec median([number()]) -> number() | undefined.
median([]) ->
    undefined;
median(Values) ->
    Sorted = lists:sort(Values),
    Middle = (length(Sorted) + 1) div 2,
    case length(Sorted) rem 2 of
        1 -> lists:nth(Middle, Sorted);
        0 -> (lists:nth(Middle, Sorted) + lists:nth(Middle + 1, Sorted)) / 2
    end.
