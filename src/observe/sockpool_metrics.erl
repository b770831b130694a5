%%% @doc What pools do, for Prometheus and those who read the same text, OpenTelemetry collectors among them.
%%%
%%% ```
%%% Text = sockpool_metrics:text(),
%%% Type = sockpool_metrics:content_type(prometheus).   % the answer needs it: Prometheus 3 fails without
%%% '''
%%%
%%% All are made from `sockpool:stats/1' and `histograms/1', which count anyway; nothing runs between two calls. Each metric, and what to
%%% do when it is high: docs/observability.md.
-module(sockpool_metrics).

-export([text/0, text/1, content_type/1, check/1, chosen/1]).
-export_type([options/0, pool/0]).

-type pool() :: sockpool:pool() | {Label :: binary(), sockpool:pool()}.
%% A pool without a name needs a label.

-type options() :: #{format => prometheus | openmetrics,
                     names => sockpool | otel,
                     pools => all | [pool()],
                     histograms => boolean(),
                     buckets => [number()]}.
%% `prometheus' is the text format 0.0.4, `openmetrics' OpenMetrics 1.0.0; the default is `prometheus'.
%%
%% `names' is `sockpool' by default. `otel': names of OpenTelemetry's semantic conventions, which are not stable yet, where there are any.
%%
%% `pools' is `all' by default: those of this node that have a name.
%%
%% `histograms' is `true' by default. They are two thirds of the text.
%%
%% `buckets': upper bounds in seconds, of 1, 2, 5 us and so on to 50 s. Without: 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10.

-define(DEFAULTS, #{format => prometheus, names => sockpool, pools => all, histograms => true,
                    buckets => [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]}).

%% @doc With the options of the environment, `application:get_env(sockpool, metrics)'.
-spec text() -> iodata().
text() -> text(#{}).

%% @doc Options that are not given are those of the environment. One that is wrong is an error `{bad_option, {metrics, Key}, Value}'.
-spec text(options()) -> iodata().
text(Given) ->
    {#{format := Format}, Families, Bounds, Pools} = chosen(Given),
    Prepared = sockpool_metrics_text:families(Families, [Written || {_Us, Written} <- Bounds]),
    sockpool_metrics_text:text(Format, Prepared, [sockpool_metrics_text:of_pool(Prepared, Look()) || Look <- Pools]).

%% @private
%% What these options ask for. The pools are not looked at yet.
-spec chosen(options()) -> {options(), [sockpool_metrics_table:family()], [{Us, Written}], [fun(() -> sockpool_metrics_table:pool())]}
              when Us :: pos_integer() | infinity, Written :: binary() | skip.
chosen(Given) ->
    #{names := Names, pools := Pools, histograms := Histograms, buckets := Buckets} = Options = options(Given),
    Families = [Family || #{type := Type} = Family <- sockpool_metrics_table:families(Names), Histograms orelse Type =/= histogram],
    {Options, Families, written(Buckets),
     [fun() -> sockpool_metrics_table:pool(Label, Pool, Histograms) end || {Label, Pool} <- pools(Pools)]}.

%% @doc What the answer to a scrape has to have as its `content-type'.
-spec content_type(prometheus | openmetrics) -> binary().
content_type(prometheus) -> <<"text/plain; version=0.0.4; charset=utf-8">>;
content_type(openmetrics) -> <<"application/openmetrics-text; version=1.0.0; charset=utf-8">>.

%% @doc Whether these are options.
-spec check(term()) -> ok | {error, {bad_option, term(), term()}}.
check(Options) when is_map(Options) ->
    case [Key || {Key, Value} <- maps:to_list(Options), not is_good(Key, Value)] of
        [] -> ok;
        [Key | _] -> {error, {bad_option, {metrics, Key}, maps:get(Key, Options)}}
    end;
check(Other) ->
    {error, {bad_option, metrics, Other}}.

is_good(format, Format) -> lists:member(Format, [prometheus, openmetrics]);
is_good(names, Names) -> lists:member(Names, [sockpool, otel]);
is_good(pools, Pools) -> Pools =:= all orelse is_list_of(fun is_pool/1, Pools);
is_good(histograms, Flag) -> is_boolean(Flag);
is_good(buckets, Buckets) -> is_list_of(fun is_bound/1, Buckets);
is_good(_Key, _Value) -> false.

is_list_of(Is, [Each | Rest]) -> Is(Each) andalso is_list_of(Is, Rest);
is_list_of(_Is, Other) -> Other =:= [].

is_pool({Label, Pool}) when is_binary(Label) ->
    is_list(unicode:characters_to_list(Label)) andalso (is_pool(Pool) orelse is_unnamed(Pool));
is_pool(Name) -> is_atom(Name) andalso Name =/= undefined.

is_unnamed(Pool) when is_reference(Pool) ->
    try sockpool_nif:pool_kind(Pool) of _ -> true catch error:badarg -> false end;
is_unnamed(_Other) -> false.

is_bound(Bound) -> is_number(Bound) andalso Bound > 0 andalso Bound =< 50 andalso is_counted(us(Bound), Bound).

is_counted(Us, Bound) -> Us / 1000000 == Bound andalso lists:keymember(Us, 1, sockpool_metrics_table:bounds()).

us(Seconds) -> round(Seconds * 1000000).

options(Given) ->
    Environment = application:get_env(sockpool, metrics, #{}),
    maps:merge(maps:merge(?DEFAULTS, checked(Environment)), checked(Given)).

checked(Options) ->
    case check(Options) of
        ok -> Options;
        {error, Reason} -> error(Reason)
    end.

written(Buckets) ->
    Chosen = [us(Bucket) || Bucket <- Buckets],
    [{Us, case lists:member(Us, Chosen) of true -> Text; false -> skip end} || {Us, Text} <- sockpool_metrics_table:bounds()]
        ++ [{infinity, <<"+Inf">>}].

%% Each label once: the same line twice would make the whole text worthless.
pools(all) -> [{label(Name), Name} || Name <- lists:sort(sockpool_pool:known())];
pools(Pools) -> lists:ukeysort(1, [labelled(Pool) || Pool <- Pools]).

labelled({_Label, _Pool} = Labelled) -> Labelled;
labelled(Name) -> {label(Name), Name}.

label(Name) -> atom_to_binary(Name, utf8).
