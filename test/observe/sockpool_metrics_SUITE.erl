%%% Metrics as text: what stands in it, by which rules, and what it costs.
-module(sockpool_metrics_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([rules/1, promtool/1, values/1, histograms/1, up/1, crashed/1, chosen_pools/1, otel/1, bad_options/1, environment/1, collector/1, documented/1, hundred_pools/1]).

-import(sockpool_test_util, [wait_until/1, settled/1]).
-import(sockpool_metrics_kit, [read/2, value/3]).

-define(HOSTILE, 'metrics "a\\b"\n{c="d"} 1\n# EOF\n\0\x{e9}').
-define(SHOWN, "metrics \"a\\b\"\n{c=\"d\"} 1\n# EOF\n\x{fffd}\x{e9}").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [rules, promtool, values, histograms, up, crashed, chosen_pools, otel, bad_options, environment, collector, documented, hundred_pools].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

end_per_testcase(_Case, _Config) ->
    application:unset_env(sockpool, metrics),
    [ok = sockpool:stop_pool(Name) || Name <- sockpool_pool:names()].

started(Name) -> started(Name, #{}).

started(Name, Opts) ->
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool(Name, maps:merge(sockpool_test_server:target(Server), maps:merge(#{size => 2}, Opts))),
    _ = settled(Name),
    Server.

used(Pool, Times) -> [{ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000) || _ <- lists:seq(1, Times)].

formats() -> [prometheus, openmetrics].

%% Also with names that are made to break out of a label. Every family is there in both, and every line of each pool.
rules(_Config) ->
    _ = started(metrics_a),
    _ = started(?HOSTILE),
    _ = used(?HOSTILE, 3),
    [Plain, Open] = [read(Format, sockpool_metrics:text(#{format => Format})) || Format <- formats()],
    ?assertEqual(3.0, value("sockpool_checkouts_total", #{"pool" => ?SHOWN}, Plain)),
    ?assertEqual(3.0, value("sockpool_checkouts_total", #{"pool" => ?SHOWN}, Open)),
    ?assertEqual(maps:size(Plain), maps:size(Open)),
    ?assertEqual(sampled(Plain), sampled(Open)),
    [?assertEqual(of_pool("metrics_a", Of), of_pool(?SHOWN, Of)) || Of <- [Plain, Open]],
    ?assertEqual(<<"text/plain; version=0.0.4; charset=utf-8">>, sockpool_metrics:content_type(prometheus)),
    ?assertEqual(<<"application/openmetrics-text; version=1.0.0; charset=utf-8">>, sockpool_metrics:content_type(openmetrics)).

sampled(Families) -> lists:sort([{Name, Labels} || #{samples := Samples} <- maps:values(Families), {Name, Labels, _} <- Samples]).

of_pool(Pool, Families) -> [{Name, maps:remove("pool", Labels)} || {Name, #{"pool" := Of} = Labels} <- sampled(Families), Of =:= Pool].

promtool(Config) ->
    sockpool_metrics_kit:has_promtool() orelse throw({skip, "no promtool here"}),
    _ = started(?HOSTILE),
    _ = used(?HOSTILE, 3),
    Check = fun(Text) -> sockpool_metrics_kit:promtool(?config(priv_dir, Config), "check metrics", Text) end,
    ?assertEqual({0, ""}, Check(sockpool_metrics:text())),
    ?assertEqual({0, ""}, Check(sockpool_metrics:text(#{histograms => false, pools => []}))),
    %% That name is OpenTelemetry's.
    {3, "db_client_connection_count non-histogram and non-summary metrics should not have \"_count\" suffix\n"} =
        Check(sockpool_metrics:text(#{names => otel})),
    ?assertMatch({1, _}, Check(<<"nothing of the kind">>)).

%% What was counted is what is written.
values(_Config) ->
    _ = started(metrics_v, #{size => 2, max_overflow => 1, checkout_timeout => 30}),
    _ = used(metrics_v, 5),
    Conns = [begin {ok, Conn} = sockpool:checkout(metrics_v), Conn end || _ <- [1, 2, 3]],
    {error, timeout} = sockpool:checkout(metrics_v),
    {error, full} = sockpool:checkout(metrics_v, 0),
    [Kept | Ended] = Conns,
    [ok = sockpool:discard(Conn) || Conn <- Ended],
    wait_until(fun() -> #{idle := Idle, connecting := Connecting} = sockpool_test_util:stats(metrics_v), {Idle, Connecting} =:= {1, 0} end),
    #{errors := #{timeout := 1, full := 1}, closed_by := #{discarded := 2}} = Stats = sockpool_test_util:stats(metrics_v),
    Families = read(prometheus, sockpool_metrics:text()),
    Is = fun(Name, Labels) -> value("sockpool_" ++ Name, Labels#{"pool" => "metrics_v"}, Families) end,
    Gauges = [{{"connections", #{"state" => atom_to_list(State)}}, State} || State <- [idle, leased, connecting]] ++
        [{{"connections_size", #{}}, size}, {{"waiting", #{}}, waiting}],
    Counters = [{{Name ++ "_total", #{}}, Key}
                || {Name, Key} <- [{"checkouts", checkouts}, {"checkins", checkins}, {"pipelined", pipelined}, {"waited", waited},
                                   {"reused", reused}, {"connections_created", created}, {"connections_deferred", deferred},
                                   {"leases_abandoned", abandoned}, {"leases_leaked", leaked}]],
    [?assertEqual({Name, float(maps:get(Key, Stats))}, {Name, Is(Name, Labels)}) || {{Name, Labels}, Key} <- Gauges ++ Counters],
    [?assertEqual({Reason, float(Count)}, {Reason, Is(Name, #{Label => atom_to_list(Reason)})})
     || {Name, Label, Key} <- [{"checkout_errors_total", "reason", errors}, {"connections_closed_total", "reason", closed_by},
                               {"connect_attempts_total", "result", connect_failed_by}],
        {Reason, Count} <- maps:to_list(maps:get(Key, Stats))],
    ?assertEqual(float(maps:get(created, Stats)), Is("connect_attempts_total", #{"result" => "ok"})),
    ?assertEqual(3.0, Is("connections_max", #{})),
    ?assertEqual(maps:get(exhausted, Stats) / 1000, Is("exhausted_seconds_total", #{})),
    ?assert(Is("exhausted_seconds_total", #{}) >= 0.02),
    ?assertEqual([0.0, 0.0], [Is("health_checks_total", #{"result" => Result}) || Result <- ["ok", "failed"]]),
    ok = sockpool:checkin(Kept).

%% Buckets that are left out are in the next that is not.
histograms(_Config) ->
    _ = started(metrics_h),
    _ = used(metrics_h, 50),
    {ok, #{bounds := Bounds, use := #{count := 50, sum := Sum, buckets := Buckets}, connect := #{total := #{count := 2}}}} =
        sockpool:histograms(metrics_h),
    ?assertEqual(Bounds, [Us || {Us, _} <- sockpool_metrics_table:bounds()]),
    UpTo = fun(Us) -> lists:sum([Count || {Bound, Count} <- lists:zip(Bounds ++ [infinity], Buckets), Bound =< Us]) end,
    [begin
         Families = read(Format, sockpool_metrics:text(Options#{format => Format})),
         Is = fun(Name, Labels) -> value("sockpool_" ++ Name, Labels#{"pool" => "metrics_h"}, Families) end,
         Les = [Le || {"sockpool_use_seconds_bucket", #{"le" := Le}, _} <- maps:get(samples, maps:get("sockpool_use_seconds", Families))],
         ?assertEqual(Written ++ ["+Inf"], Les),
         [?assertEqual({Le, float(UpTo(round(seconds(Le) * 1000000)))}, {Le, Is("use_seconds_bucket", #{"le" => Le})}) || Le <- Written],
         ?assertEqual(50.0, Is("use_seconds_count", #{})),
         ?assertEqual(Sum / 1000000, Is("use_seconds_sum", #{})),
         ?assertEqual([2.0, 0.0, 2.0, 0.0], [Is("connect_seconds_count", #{"phase" => Phase}) || Phase <- ["total", "resolve", "tcp", "tls"]])
     end || Format <- formats(),
            {Options, Written} <- [{#{}, ["0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1.0", "5.0", "10.0"]},
                                   {#{buckets => [50, 0.000001, 2.0e-5, 1]}, ["1e-06", "2e-05", "1.0", "50.0"]},
                                   {#{buckets => []}, []}]],
    ?assertEqual(nomatch, string:find(sockpool_metrics:text(#{histograms => false}), "_bucket")).

seconds(Le) ->
    {Float, ""} = string:to_float(re:replace(Le, "^([0-9]+)e", "\\1.0e", [{return, list}])),
    Float.

up(_Config) ->
    Server = started(metrics_up, #{backoff => {50, 50}}),
    ?assertEqual({1.0, 1.0}, {is_up("metrics_up"), is_in("metrics_up", "open")}),
    ok = sockpool_test_server:stop(Server),
    wait_until(fun() -> is_up("metrics_up") =:= 0.0 end),
    ?assertEqual(1.0, is_in("metrics_up", "open")),
    ok = sockpool:stop_pool(metrics_up),
    ?assertEqual({none, none}, {is_up("metrics_up"), is_in("metrics_up", "down")}),
    Listed = read(prometheus, sockpool_metrics:text(#{pools => [metrics_up]})),
    ?assertEqual([{"sockpool_pool_state", "down", 1.0}, {"sockpool_pool_state", "draining", 0.0}, {"sockpool_pool_state", "open", 0.0},
                  {"sockpool_up", none, 0.0}],
                 lists:sort([{Name, maps:get("state", Labels, none), Value} || #{samples := Samples} <- maps:values(Listed),
                                                                               {Name, #{"pool" := _} = Labels, Value} <- Samples])).

is_up(Pool) -> value("sockpool_up", #{"pool" => Pool}, read(prometheus, sockpool_metrics:text())).

is_in(Pool, State) -> value("sockpool_pool_state", #{"pool" => Pool, "state" => State}, read(prometheus, sockpool_metrics:text())).

%% A pool whose process is gone, and that nobody starts again, is not forgotten.
crashed(_Config) ->
    Server = sockpool_test_server:start(),
    {ok, Pid} = sockpool:start_link(metrics_crashed, sockpool_test_server:target(Server)),
    true = unlink(Pid),
    exit(Pid, kill),
    wait_until(fun() -> is_in("metrics_crashed", "down") =:= 1.0 end),
    ?assertEqual(0.0, is_up("metrics_crashed")),
    _ = read(openmetrics, sockpool_metrics:text(#{format => openmetrics})).

%% One without a name needs a label. A label comes once, or the whole text would be worth nothing.
chosen_pools(_Config) ->
    Server = started(metrics_a),
    _ = started(metrics_b),
    {ok, Unnamed} = sockpool:start_pool(sockpool_test_server:target(Server)),
    Pools = fun(Chosen) ->
                    #{"sockpool_up" := #{samples := Samples}} = read(prometheus, sockpool_metrics:text(#{pools => Chosen})),
                    lists:sort([Pool || {_, #{"pool" := Pool}, 1.0} <- Samples])
            end,
    ?assertEqual(["metrics_a", "metrics_b"], Pools(all)),
    ?assertEqual(["metrics_b"], Pools([metrics_b])),
    ?assertEqual(["metrics_b", "tenant \"1\""], Pools([metrics_b, {<<"tenant \"1\"">>, Unnamed}, metrics_b])),
    ?assertEqual(["same"], Pools([{<<"same">>, Unnamed}, {<<"same">>, metrics_a}])),
    ?assertError({bad_option, {metrics, pools}, _}, sockpool_metrics:text(#{pools => [Unnamed]})),
    ok = sockpool:stop_pool(Unnamed).

otel(_Config) ->
    _ = started(metrics_o, #{size => 2, max_overflow => 1}),
    _ = used(metrics_o, 4),
    [begin
         Families = read(Format, sockpool_metrics:text(#{names => otel, format => Format})),
         Is = fun(Name, Labels) -> value("db_client_connection_" ++ Name, Labels#{"db_client_connection_pool_name" => "metrics_o"}, Families) end,
         ?assertEqual([2.0, 0.0, 0.0], [Is("count", #{"db_client_connection_state" => State}) || State <- ["idle", "used", "connecting"]]),
         ?assertEqual([2.0, 3.0, 0.0, 0.0], [Is(Name, #{}) || Name <- ["idle_max", "max", "pending_requests", "timeouts_total"]]),
         ?assertEqual([2.0, 4.0, 4.0], [Is(Name ++ "_time_seconds_count", #{}) || Name <- ["create", "wait", "use"]]),
         ?assertNot(maps:is_key("sockpool_waiting", Families)),
         ?assertEqual(4.0, value("sockpool_checkouts_total", #{"pool" => "metrics_o"}, Families))
     end || Format <- formats()].

bad_options(_Config) ->
    [begin
         ?assertError({bad_option, {metrics, Key}, Value}, sockpool_metrics:text(#{Key => Value})),
         ?assertEqual({error, {bad_option, {metrics, Key}, Value}}, sockpool_metrics:check(#{Key => Value})),
         ?assertNotEqual(nomatch, string:find(sockpool:format_error({bad_option, {metrics, Key}, Value}), "metrics"))
     end || {Key, Value} <- [{format, html}, {names, none}, {pools, [1]}, {pools, [a | b]}, {pools, [{<<255>>, a}]}, {pools, undefined},
                             {pools, [{<<"x">>, make_ref()}]}, {histograms, 1}, {buckets, [0.3]}, {buckets, [0]}, {buckets, [1.0e300]},
                             {buckets, [0.00010000001]}, {buckets, 1}, {unknown, 1}]],
    ?assertError({bad_option, metrics, []}, sockpool_metrics:text([])),
    ?assertEqual(ok, sockpool_metrics:check(#{})).

%% What is given comes before it.
environment(_Config) ->
    ok = application:set_env(sockpool, metrics, #{format => openmetrics, histograms => false}),
    ?assertNot(maps:is_key("sockpool_use_seconds", read(openmetrics, sockpool_metrics:text()))),
    ?assert(maps:is_key("sockpool_use_seconds", read(openmetrics, sockpool_metrics:text(#{histograms => true})))),
    ok = application:set_env(sockpool, metrics, #{format => html}),
    ?assertError({bad_option, {metrics, format}, html}, sockpool_metrics:text()).

%% By a stand-in for the library, which hands on what it was given: the same as the text, in the order of both versions.
collector(_Config) ->
    Code = compile_forms(["-module(prometheus_model_helpers).", "-export([create_mf/4]).",
                          "create_mf(Name, Help, Type, Metrics) -> {Name, Help, Type, Metrics}."]),
    {module, Model} = code:load_binary(prometheus_model_helpers, "prometheus_model_helpers.erl", Code),
    try
        _ = started(metrics_c),
        _ = used(metrics_c, 7),
        ok = sockpool_prometheus:collect_mf(default, fun(Family) -> self() ! {family, Family} end),
        Families = collected(),
        ok = sockpool_prometheus:collect_mf(fun(Family) -> self() ! {family, Family} end, default),
        ?assertEqual(Families, collected()),
        Text = read(prometheus, sockpool_metrics:text()),
        ?assertEqual(maps:size(Text), length(Families)),
        [?assertEqual({Name, Type, Help, wanted(Type, Samples)},
                      {Name, Type, binary_to_list(Of), lists:sort([got(Type, Metric) || Metric <- Metrics])})
         || {Name0, Of, Type0, Metrics} <- Families, Name <- [plain(Name0)], Type <- [atom_to_list(Type0)],
            #{help := Help, samples := Samples} <- [maps:get(Name, Text)]],
        ok = sockpool_prometheus:deregister_cleanup(default)
    after
        true = code:delete(Model),
        _ = code:purge(Model)
    end.

compile_forms(Lines) ->
    Forms = [begin {ok, Tokens, _} = erl_scan:string(Line), {ok, Form} = erl_parse:parse_form(Tokens), Form end || Line <- Lines],
    {ok, _, Code} = compile:forms(Forms),
    Code.

collected() -> receive {family, Family} -> [Family | collected()] after 0 -> [] end.

wanted("histogram", Samples) ->
    Key = fun(Labels) -> lists:sort(maps:to_list(maps:remove("le", Labels))) end,
    Keys = lists:usort([Key(Labels) || {_, Labels, _} <- Samples]),
    [{Each, lists:sort([Value || {Name, Labels, Value} <- Samples, Key(Labels) =:= Each, lists:suffix("_bucket", Name)]),
      [Value || End <- ["_count", "_sum"], {Name, Labels, Value} <- Samples, Key(Labels) =:= Each, lists:suffix(End, Name)]} || Each <- Keys];
wanted(_Type, Samples) ->
    lists:sort([{lists:sort(maps:to_list(Labels)), Value} || {_, Labels, Value} <- Samples]).

got("histogram", {Labels, Buckets, Count, Sum}) ->
    {infinity, Count} = lists:last(Buckets),
    {labels(Labels), [float(Each) || {_, Each} <- Buckets], [float(Count), Sum]};
got(_Type, {Labels, Value}) ->
    {labels(Labels), float(Value)}.

labels(Labels) -> lists:sort([{plain(Name), unicode:characters_to_list(Value)} || {Name, Value} <- Labels]).

%% Names, types and labels of docs/observability.md.
documented(_Config) ->
    Own = sockpool_metrics_table:families(sockpool),
    ?assertEqual([said(Family) || Family <- Own], [{Name, Type, words(Labels)} || [Name, Type, Labels | _] <- rows("## Metrics")]),
    Otel = sockpool_metrics_table:families(otel) -- Own,
    Rows = rows("### Names of OpenTelemetry"),
    ?assertEqual([said(Family) || Family <- Otel], [{Name, Type, lists:sublist(words(Labels), 1)} || [Name, Type, Labels, _] <- Rows]),
    Kept = [plain(Name) || #{name := Name} <- sockpool_metrics_table:families(otel)],
    ?assertEqual(lists:sort([plain(Name) || #{name := Name} <- Own] -- Kept),
                 lists:sort([Instead || [_, _, _, Cell] <- Rows, [Instead] <- [words(Cell)], string:find(Cell, "written, too") =:= nomatch])).

said(#{name := Name, type := Type, labels := Labels}) ->
    End = maps:get(Type, #{counter => "_total", info => "_info"}, ""),
    {plain(Name) ++ End, atom_to_list(Type), [plain(Label) || Label <- Labels]}.

plain(Text) -> binary_to_list(Text).

%% The rows of the metrics below a heading, their names without quotes.
rows(Heading) ->
    [Heading | After] = lists:dropwhile(fun(Line) -> Line =/= Heading end, sockpool_docs_kit:lines("docs/observability.md")),
    Section = lists:takewhile(fun(Line) -> not lists:prefix("#", Line) end, After),
    [_Head, _Rule | Rows] = lists:dropwhile(fun(Line) -> not lists:prefix("| metric |", Line) end, Section),
    [[hd(words(Name)) | [string:trim(Cell) || Cell <- Cells]]
     || "| " ++ _ = Row <- Rows, ["", Name | Cells] <- [lists:droplast(string:split(Row, "|", all))]].

%% What stands between backquotes.
words(Cell) -> quoted(string:split(Cell, "`", all)).

quoted([_Before, Word | Rest]) -> [Word | quoted(Rest)];
quoted(_Rest) -> [].

%% The best of many: what other programs take of the machine is no part of it.
hundred_pools(_Config) ->
    Server = sockpool_test_server:start(),
    Names = [list_to_atom("metrics_" ++ integer_to_list(I)) || I <- lists:seq(1, 100)],
    [ok = sockpool:start_pool(Name, maps:merge(sockpool_test_server:target(Server), #{size => 1})) || Name <- Names],
    [begin ok = sockpool:await_ready(Name), used(Name, 2) end || Name <- Names],
    Scrapes = [scrape() || _ <- lists:seq(1, 50)],
    ct:pal("ms and long slices of a scrape: ~p", [Scrapes]),
    ?assert(lists:min([Ms || {Ms, _} <- Scrapes]) < 20),
    ?assertEqual(0, lists:min([Long || {_, Long} <- Scrapes])).

%% How long it took, and how often it kept a scheduler for a millisecond.
scrape() ->
    Self = self(),
    _ = erlang:system_monitor(Self, [{long_schedule, 1}]),
    {Pid, Monitor} = spawn_monitor(fun() ->
        {Us, Text} = timer:tc(fun() -> iolist_to_binary(sockpool_metrics:text()) end),
        true = byte_size(Text) > 500000,
        exit({took, Us / 1000})
    end),
    Ms = receive {'DOWN', Monitor, process, Pid, {took, Took}} -> Took end,
    _ = erlang:system_monitor(undefined),
    {Ms, longs(Pid, 0)}.

longs(Pid, Count) ->
    receive
        {monitor, Pid, long_schedule, _} -> longs(Pid, Count + 1);
        {monitor, _, _, _} -> longs(Pid, Count)
    after 0 -> Count
    end.
