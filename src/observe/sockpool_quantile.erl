%%% @private
%%% Quantiles of histograms: of all that was counted, or of what was between two readings.
-module(sockpool_quantile).

-export([difference/2, of_histogram/3, of_buckets/3]).

-type histogram() :: #{count := non_neg_integer(), sum := non_neg_integer(), buckets := [non_neg_integer()]}.

-spec difference(histogram(), histogram()) -> [non_neg_integer()].
difference(#{count := Count}, #{count := Count}) -> [];
difference(#{buckets := Before}, #{buckets := Now}) -> lists:zipwith(fun(Was, Is) -> max(0, Is - Was) end, Before, Now).

-spec of_histogram(float(), histogram(), Bounds :: [pos_integer()]) -> pos_integer() | undefined.
of_histogram(Part, #{buckets := Buckets}, Bounds) -> of_buckets(Part, Buckets, Bounds).

%% @doc The upper bound of the bucket that it is in, or the last bound where it is above all; `undefined' of nothing.
-spec of_buckets(float(), [non_neg_integer()], Bounds :: [pos_integer()]) -> pos_integer() | undefined.
of_buckets(_Part, [], _Bounds) ->
    undefined;
of_buckets(Part, Buckets, Bounds) ->
    case lists:sum(Buckets) of
        0 -> undefined;
        Count -> at(ceil(Part * Count), Buckets, Bounds)
    end.

at(_Rank, _Buckets, [Last]) -> Last;
at(Rank, [Here | _], [Bound | _]) when Rank =< Here -> Bound;
at(Rank, [Here | Buckets], [_ | Bounds]) -> at(Rank - Here, Buckets, Bounds).
