%%% @doc A collector for the library `prometheus', version 4 or later, of those who have that one. sockpool does not depend on it.
%%%
%%% ```
%%% ok = prometheus_registry:register_collector(sockpool_prometheus).
%%% '''
%%%
%%% Its metrics are those of sockpool_metrics, with the options of the environment `metrics'; what that library writes is its own.
-module(sockpool_prometheus).

-export([collect_mf/2, deregister_cleanup/1]).

%% Not called by name: there may be no such module.
-define(MODEL, prometheus_model_helpers).

%% @doc See prometheus_collector. Before its version 4 the function came first.
-spec collect_mf(Registry :: term(), fun((Family :: term()) -> term())) -> ok.
collect_mf(Callback, _Registry) when is_function(Callback, 1) -> collect(Callback);
collect_mf(_Registry, Callback) -> collect(Callback).

collect(Callback) ->
    {_Options, Families, Bounds, Looks} = sockpool_metrics:chosen(#{}),
    Pools = [Look() || Look <- Looks],
    Model = ?MODEL,
    lists:foreach(fun(#{type := Type, help := Help} = Family) ->
                          Metrics = [metric(Family, Of, Sample, Bounds)
                                     || Of <- of_what(Family, Pools), Sample <- sockpool_metrics_table:samples(maps:get(source, Family), Of)],
                          Callback(Model:create_mf(sockpool_metrics_table:sample_name(Family), Help, type(Type), Metrics))
                  end, Families).

-spec deregister_cleanup(term()) -> ok.
deregister_cleanup(_Registry) -> ok.

of_what(#{pool_label := none}, _Pools) -> [node];
of_what(_Family, Pools) -> Pools.

type(info) -> gauge;
type(Type) -> Type.

metric(#{labels := Labels} = Family, Of, {Words, Value}, Bounds) ->
    value(pool_label(Family, Of) ++ lists:zip(Labels, Words), Value, Bounds).

pool_label(#{pool_label := none}, node) -> [];
pool_label(#{pool_label := Name}, #{label := Label}) -> [{Name, Label}].

value(Labels, #{count := Count, sum := Sum, buckets := Buckets}, Bounds) ->
    {Labels, cumulated(Bounds, Buckets, 0), Count, Sum / 1000000};
value(Labels, {ms, Ms}, _Bounds) ->
    {Labels, Ms / 1000};
value(Labels, Value, _Bounds) ->
    {Labels, Value}.

cumulated([{_Us, skip} | Bounds], [Count | Counts], Sum) -> cumulated(Bounds, Counts, Sum + Count);
cumulated([{infinity, _} | Bounds], [Count | Counts], Sum) -> [{infinity, Sum + Count} | cumulated(Bounds, Counts, Sum + Count)];
cumulated([{Us, _} | Bounds], [Count | Counts], Sum) -> [{Us / 1000000, Sum + Count} | cumulated(Bounds, Counts, Sum + Count)];
cumulated([], [], _Sum) -> [].
