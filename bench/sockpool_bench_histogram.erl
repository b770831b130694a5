%% @doc Counts of operations and their latencies, written by thousands of processes at once.
%%
%% Log-linear: 32 buckets for each power of two, so a value is known to 3 %. Each scheduler has
%% counters of its own, so that writing does not slow down what is measured. Latencies are in
%% native time units inside and in microseconds outside.
-module(sockpool_bench_histogram).

-export([new/0, record/2, count/2, operations/1, snapshot/1, since/2, percentile/2, share_above/2]).
-export_type([histogram/0, snapshot/0]).

-opaque histogram() :: counters:counters_ref().
-opaque snapshot() :: [non_neg_integer()].

-define(OPERATIONS, 1).
-define(FIRST_BUCKET, 2).
-define(SUB_BITS, 5).
-define(SUBS, (1 bsl ?SUB_BITS)).
%% 2^40 ns are 18 minutes.
-define(TOP_BIT, 40).
-define(BUCKETS, ((?TOP_BIT - ?SUB_BITS + 2) * ?SUBS)).

-spec new() -> histogram().
new() ->
    counters:new(?FIRST_BUCKET + ?BUCKETS, [write_concurrency]).

%% @doc An operation that took so long.
-spec record(histogram(), Native :: integer()) -> ok.
record(Histogram, Native) ->
    counters:add(Histogram, ?OPERATIONS, 1),
    counters:add(Histogram, ?FIRST_BUCKET + bucket(Native), 1).

%% @doc So many operations that were not timed.
-spec count(histogram(), non_neg_integer()) -> ok.
count(Histogram, Count) ->
    counters:add(Histogram, ?OPERATIONS, Count).

%% @doc All operations so far, timed or not.
-spec operations(histogram()) -> non_neg_integer().
operations(Histogram) ->
    counters:get(Histogram, ?OPERATIONS).

-spec snapshot(histogram()) -> snapshot().
snapshot(Histogram) ->
    [counters:get(Histogram, ?FIRST_BUCKET + I) || I <- lists:seq(0, ?BUCKETS - 1)].

%% @doc What was recorded after an earlier snapshot.
-spec since(snapshot(), histogram()) -> snapshot().
since(Earlier, Histogram) ->
    lists:zipwith(fun(Now, Then) -> Now - Then end, snapshot(Histogram), Earlier).

%% @doc Microseconds that this fraction of the operations (0.0..1.0) stayed below; 1.0 is the
%% maximum. The end of the bucket is reported, never its start. `undefined' if there is nothing.
-spec percentile(float(), snapshot()) -> float() | undefined.
percentile(Fraction, Snapshot) ->
    case lists:sum(Snapshot) of
        0 -> undefined;
        Total -> rank(max(1, ceil(Fraction * Total)), Snapshot, 0)
    end.

%% @doc How many of the operations (0.0..1.0) took longer than so many microseconds, as far as buckets tell.
-spec share_above(pos_integer(), snapshot()) -> float().
share_above(Us, Snapshot) ->
    {_, Above} = lists:split(bucket(erlang:convert_time_unit(Us, microsecond, native)) + 1, Snapshot),
    lists:sum(Above) / max(1, lists:sum(Snapshot)).

rank(Left, [Count | _], Bucket) when Left =< Count ->
    microseconds(bucket_end(Bucket));
rank(Left, [Count | Rest], Bucket) ->
    rank(Left - Count, Rest, Bucket + 1).

microseconds(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond) / 1000.

bucket(Value) when Value < ?SUBS ->
    max(Value, 0);
bucket(Value) ->
    Shift = min(top_bit(Value), ?TOP_BIT) - ?SUB_BITS,
    (Shift + 1) * ?SUBS + min((Value bsr Shift) - ?SUBS, ?SUBS - 1).

bucket_end(Bucket) when Bucket < ?SUBS ->
    Bucket + 1;
bucket_end(Bucket) ->
    Shift = Bucket div ?SUBS - 1,
    (Bucket rem ?SUBS + ?SUBS + 1) bsl Shift.

%% The position of the highest bit that is set, by halving.
top_bit(Value) when Value >= 1 bsl 32 -> top_bit(Value bsr 32, 16, 32);
top_bit(Value) -> top_bit(Value, 16, 0).

top_bit(_, 0, Bit) ->
    Bit;
top_bit(Value, Step, Bit) when Value >= 1 bsl Step ->
    top_bit(Value bsr Step, Step bsr 1, Bit + Step);
top_bit(Value, Step, Bit) ->
    top_bit(Value, Step bsr 1, Bit).
