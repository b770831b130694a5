%%% @private
%%% Looks at every pool once a second, while somebody looks at the page: who asks for pools says so, and who has not for
%%% 30 s is gone. Then all that was kept is forgotten, and nothing runs.
%%%
%%% What a pool's row shows is written as JSON once, when it changes, into a table that those who answer read. A row has the
%%% number of the look that changed it last, so that a page asks for what has changed since.
%%%
%%% What is wrong with them is found out beside that, by a process of its own: who asks a pool's process may have to wait.
%%% Every two seconds 20 pools have their turn, those that look bad first, then those with traffic.
%%%
%%% Of at most 100 pools, those with traffic and those that somebody asks for, there is a history: 60 looks, and 360 that
%%% are 10 s apart.
-module(sockpool_sampler).
-behaviour(gen_server).

-export([start_link/0, look/0, pool/1, rows/1, verdict/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([point/0, quantiles/0]).

-define(TABLE, ?MODULE).
-define(EVERY_MS, 1000).
-define(LOOKED_MS, 30000).
-define(HISTORIES, 100).
-define(SHORT, 60).
-define(LONG, 360).
-define(LONG_EACH, 10).
%% Histograms are read of so many pools in a look at most; of others with traffic in the next ones.
-define(HISTOGRAMS, 100).
-define(JUDGED, 20).
-define(JUDGE_EACH, 2).

%% {UnixMs, Idle, Leased, Connecting, Waiting, Limit, Size, CheckoutsPerS, ErrorsPerS}
-type point() :: {integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(),
                  non_neg_integer(), float(), float()}.
%% In microseconds: of what was counted between two readings of the histograms.
-type quantiles() :: #{wait_p50 | wait_p99 | use_p99 | connect_p99 => non_neg_integer() | undefined}.

-type readings() :: #{atom() => sockpool_verdict:snapshot()}.

-record(history, {short = [] :: [point()], long = [] :: [point()]}).
-record(seen, {at :: integer(),                          % ms, monotonic
               stats :: sockpool_pool:stats(),
               histograms :: sockpool_pool:histograms() | undefined,
               quantiles = #{} :: quantiles(),
               rates = {0.0, 0.0} :: {float(), float()}, % check-outs and errors per second
               row :: map() | undefined}).
-record(state, {timer :: reference() | undefined,
                until = 0 :: integer(),
                number = 0 :: non_neg_integer(),
                seen = #{} :: #{atom() => #seen{}},
                histories = #{} :: #{atom() => #history{}},
                turn = [] :: [atom()],                   % whose histograms are to be read next
                judge :: {pid(), reference()} | undefined,
                readings = #{} :: readings(),
                findings = #{} :: #{atom() => [sockpool_verdict:finding()]}}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Somebody looks. Returns when there is something to be seen.
-spec look() -> ok.
look() ->
    case ets:lookup(?TABLE, looking) of
        [{looking, _}] -> gen_server:cast(?MODULE, look);
        [] -> gen_server:call(?MODULE, look)
    end.

%% @doc The number of the last look, and the rows that have changed since that one: all of them for 0, or where it is none
%% of those of this time.
-spec rows(Since :: non_neg_integer()) -> {Number :: non_neg_integer(), All :: boolean(), [iodata()], Names :: non_neg_integer()}.
rows(Since) ->
    {Number, First, Removed, Count} = ets:lookup_element(?TABLE, looking, 2),
    All = Since < First orelse Since > Number orelse Since < Removed,
    From = if All -> 0; true -> Since end,
    {Number, All, ets:select(?TABLE, [{{{row, '_'}, '$1', '$2'}, [{'>', '$1', From}], ['$2']}]), Count}.

%% @doc Its row, and its history: the oldest first.
-spec pool(atom()) -> {ok, #{row := map(), short := [point()], long := [point()]}} | {error, not_found}.
pool(Name) -> gen_server:call(?MODULE, {pool, Name}).

%% @doc What is wrong, the worst first, and nothing of those that are well. Two readings are needed to know.
-spec verdict() -> [{atom(), sockpool_verdict:finding()}] | not_yet.
verdict() ->
    case ets:lookup(?TABLE, verdict) of
        [{verdict, Findings}] -> Findings;
        [] -> not_yet
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ?TABLE = ets:new(?TABLE, [named_table, protected, {read_concurrency, true}]),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(look, _From, State) ->
    {reply, ok, looked(State)};
handle_call({pool, Name}, _From, State) ->
    {Answer, Next} = detail(Name, looked(State)),
    {reply, Answer, Next};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(look, State) -> {noreply, looked(State)};
handle_cast(_Request, State) -> {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, hibernate}.
handle_info({timeout, Timer, tick}, #state{timer = Timer, until = Until} = State) ->
    case now_ms() < Until of
        true -> {noreply, next(judging(sampled(State)))};
        false ->
            true = ets:delete_all_objects(?TABLE),
            {noreply, #state{number = State#state.number, judge = State#state.judge}, hibernate}
    end;
handle_info({judged, Judge, Readings, Findings}, #state{judge = {Judge, _}, timer = Timer} = State) when Timer =/= undefined ->
    {noreply, judged(Readings, Findings, State)};
handle_info({'DOWN', Monitor, process, Judge, _Why}, #state{judge = {Judge, Monitor}} = State) ->
    {noreply, State#state{judge = undefined}};
handle_info(_Other, State) ->
    {noreply, State}.

now_ms() -> erlang:monotonic_time(millisecond).

looked(#state{timer = undefined} = State) ->
    First = State#state.number + 1,
    true = ets:insert(?TABLE, {first, First}),
    next(judging(sampled(State#state{until = now_ms() + ?LOOKED_MS})));
looked(State) ->
    State#state{until = now_ms() + ?LOOKED_MS}.

next(State) -> State#state{timer = erlang:start_timer(?EVERY_MS, self(), tick)}.

detail(Name, #state{seen = Seen, histories = Histories} = State) ->
    case Seen of
        #{Name := #seen{row = Row}} ->
            History = maps:get(Name, Histories, #history{}),
            {{ok, #{row => Row, short => lists:reverse(History#history.short), long => lists:reverse(History#history.long)}},
             State#state{histories = admitted(Name, State)}};
        _ ->
            {{error, not_found}, State}
    end.

%%% A look.

sampled(#state{number = Number, seen = Before} = State) ->
    Names = sockpool_pool:names(),
    {Turn, Later} = turn(State#state.turn, Names),
    Looked = State#state{number = Number + 1, turn = Later},
    {Seen, After} = lists:foldl(fun(Name, Acc) -> sampled(Name, Turn, Before, Acc) end, {#{}, Looked}, Names),
    Gone = maps:keys(maps:without(maps:keys(Seen), Before)),
    lists:foreach(fun(Name) -> ets:delete(?TABLE, {row, Name}) end, Gone),
    [{first, First}] = ets:lookup(?TABLE, first),
    Removed = case {Gone, ets:lookup(?TABLE, looking)} of
                  {[_ | _], _} -> Number + 1;
                  {[], [{looking, {_, _, Last, _}}]} -> Last;
                  {[], []} -> 0
              end,
    true = ets:insert(?TABLE, {looking, {Number + 1, First, Removed, map_size(Seen)}}),
    After#state{seen = Seen, histories = maps:with(maps:keys(Seen), After#state.histories)}.

%% Everybody's turn comes.
turn(Waiting, Names) ->
    {Now, Later} = lists:split(min(?HISTOGRAMS, length(Waiting)), Waiting),
    case Later of
        [] -> {maps:from_keys(Now, true), Names};
        _ -> {maps:from_keys(Now, true), Later}
    end.

sampled(Name, Turn, Before, {Seen, State}) ->
    case sockpool_pool:stats(Name) of
        {ok, Stats} ->
            Last = maps:get(Name, Before, undefined),
            {New, History} = seen(Name, Stats, Last, is_map_key(Name, Turn) orelse Last =:= undefined, State),
            {Seen#{Name => New}, State#state{histories = History}};
        {error, not_found} ->
            {Seen, State}
    end.

%% Nothing has changed, and there is no history to go on with.
seen(Name, Stats, #seen{stats = Stats, rates = {Checkouts, Errors}} = Last, _Turn, #state{histories = Histories})
  when Checkouts == 0, Errors == 0, not is_map_key(Name, Histories) ->
    {Last#seen{at = now_ms()}, Histories};
seen(Name, Stats, Last, Turn, #state{number = Number, histories = Histories} = State) ->
    Now = now_ms(),
    Rates = rates(Stats, Last, Now),
    {Histograms, Quantiles} = quantiles(Name, Turn, Last, Stats),
    Known = case {Rates, is_map_key(Name, Histories)} of
                {{Checkouts, Errors}, false} when Checkouts > 0; Errors > 0 -> admitted(Name, State);
                _ -> Histories
            end,
    Next = case Known of
               #{Name := History} -> Known#{Name := extended(History, point(Stats, Rates), Number)};
               #{} -> Known
           end,
    Row = row(Stats, Rates, Quantiles, peak(maps:get(Name, Next, #history{}))),
    _ = Last =/= undefined andalso Last#seen.row =:= Row
        orelse ets:insert(?TABLE, {{row, Name}, Number, iolist_to_binary(sockpool_json:encode(Row))}),
    {#seen{at = Now, stats = Stats, histograms = Histograms, quantiles = Quantiles, rates = Rates, row = Row}, Next}.

rates(_Stats, undefined, _Now) ->
    {0.0, 0.0};
rates(Stats, #seen{at = At, stats = Before}, Now) ->
    Seconds = max(1, Now - At) / 1000,
    {grown([checkouts, pipelined], Stats, Before) / Seconds,
     (grown([connect_failures], Stats, Before) + lists:sum(maps:values(maps:get(errors, Stats)))
      - lists:sum(maps:values(maps:get(errors, Before)))) / Seconds}.

grown(Keys, Now, Before) -> lists:sum([maps:get(Key, Now) - maps:get(Key, Before) || Key <- Keys]).

%% Read again only where something was counted, and it is the pool's turn.
quantiles(Name, Turn, undefined, _Stats) when Turn ->
    {read(Name), #{}};
quantiles(_Name, false, #seen{histograms = Histograms, quantiles = Quantiles}, _Stats) ->
    {Histograms, Quantiles};
quantiles(_Name, true, #seen{stats = Same, histograms = Histograms, quantiles = Quantiles}, Same) ->
    {Histograms, Quantiles};
quantiles(Name, true, #seen{histograms = Before}, _Stats) ->
    case read(Name) of
        undefined -> {undefined, #{}};
        Histograms -> {Histograms, between(Before, Histograms)}
    end.

read(Name) ->
    case sockpool_pool:histograms(Name) of
        {ok, Histograms} -> Histograms;
        {error, not_found} -> undefined
    end.

between(undefined, _Now) ->
    #{};
between(#{connect := #{total := ConnectBefore}} = Before, #{bounds := Bounds, connect := #{total := Connect}} = Now) ->
    Wait = sockpool_quantile:difference(maps:get(wait, Before), maps:get(wait, Now)),
    Use = sockpool_quantile:difference(maps:get(use, Before), maps:get(use, Now)),
    #{wait_p50 => sockpool_quantile:of_buckets(0.5, Wait, Bounds), wait_p99 => sockpool_quantile:of_buckets(0.99, Wait, Bounds),
      use_p99 => sockpool_quantile:of_buckets(0.99, Use, Bounds),
      connect_p99 => sockpool_quantile:of_buckets(0.99, sockpool_quantile:difference(ConnectBefore, Connect), Bounds)}.

row(#{name := Name, size := Size, max_overflow := Overflow} = Stats, {Checkouts, Errors}, Quantiles, Peak) ->
    #{checkouts := All, reused := Reused, last_error := Error} = Stats,
    Shown = maps:with([idle, leased, connecting, waiting, size, oldest_wait, total, leaked, last_error_at], Stats),
    maps:merge(Shown#{name => atom_to_binary(Name, utf8), limit => Size + Overflow, peak => Peak,
                      state => state(Stats, Size + Overflow), rate => rounded(Checkouts), errors => rounded(Errors),
                      reuse => if All > 0 -> round(1000 * Reused / All) / 10; true -> null end,
                      last_error => case Error of undefined -> null; _ -> {text, sockpool_error:format(Error)} end},
               maps:merge(#{wait_p50 => null, wait_p99 => null, use_p99 => null, connect_p99 => null}, Quantiles)).

rounded(Rate) when Rate < 10 -> round(Rate * 10) / 10;
rounded(Rate) -> round(Rate).

%% The worst first.
state(#{idle := 0, leased := 0, size := Size, last_error := Error}, _) when Size > 0, Error =/= undefined -> down;
state(#{waiting := Waiting}, _) when Waiting > 0 -> waiting;
state(#{idle := 0, leased := Leased}, Limit) when Leased >= Limit, Limit > 0 -> full;
state(_, _) -> ok.

%%% Histories: the newest first.

point(#{idle := Idle, leased := Leased, connecting := Connecting, waiting := Waiting, size := Size, max_overflow := Overflow},
      {Checkouts, Errors}) ->
    {os:system_time(millisecond), Idle, Leased, Connecting, Waiting, Size + Overflow, Size, Checkouts, Errors}.

extended(#history{short = Short, long = Long}, Point, Number) ->
    #history{short = lists:sublist([Point | Short], ?SHORT),
             long = if Number rem ?LONG_EACH =:= 0 -> lists:sublist([Point | Long], ?LONG); true -> Long end}.

peak(#history{short = Short}) ->
    lists:foldl(fun(Point, Most) -> max(Most, element(3, Point)) end, 0, Short).

%% Whoever had no traffic for the last minute gives way.
admitted(Name, #state{histories = Histories}) when is_map_key(Name, Histories) ->
    Histories;
admitted(Name, #state{histories = Histories}) when map_size(Histories) < ?HISTORIES ->
    Histories#{Name => #history{}};
admitted(Name, #state{histories = Histories}) ->
    case [Other || {Other, History} <- maps:to_list(Histories), rests(History)] of
        [Other | _] -> (maps:remove(Other, Histories))#{Name => #history{}};
        [] -> Histories
    end.

rests(#history{short = Short}) ->
    length(Short) =:= ?SHORT andalso lists:all(fun(Point) -> element(8, Point) == 0 andalso element(9, Point) == 0 end, Short).

%%% Verdicts.

judging(#state{judge = undefined, number = Number, seen = Seen, readings = Readings, findings = Findings} = State)
  when Number rem ?JUDGE_EACH =:= 1 ->
    Names = lists:sublist([Name || {_, Name} <- lists:sort([{urgency(Name, One, Findings), Name} || {Name, One} <- maps:to_list(Seen)])],
                          ?JUDGED),
    Sampler = self(),
    State#state{judge = spawn_monitor(fun() -> Sampler ! judgement(Names, Readings) end)};
judging(State) ->
    State.

%% Those whose turn is long ago go before others of their kind.
urgency(Name, #seen{row = #{state := State, rate := Rate, errors := Errors}}, Findings) ->
    Kind = if
               State =:= down; State =:= waiting; Errors > 0 -> 0;
               is_map_key(Name, Findings) -> 1;
               State =:= full; Rate > 0 -> 2;
               true -> 3
           end,
    {Kind, erlang:phash2({Name, erlang:monotonic_time(second) div ?JUDGE_EACH})}.

judgement(Names, Readings) ->
    New = maps:from_list([{Name, Reading} || Name <- Names, {ok, Reading} <- [sockpool_verdict:snapshot(Name)]]),
    Findings = maps:map(fun(Name, Now) -> [Finding || #{severity := Severity} = Finding <- found(Name, Readings, Now), Severity =/= ok] end,
                        New),
    {judged, self(), New, Findings}.

found(Name, Readings, Now) ->
    case Readings of
        #{Name := Before} -> sockpool_verdict:findings(Before, Now);
        #{} -> []
    end.

%% One that was not looked at now keeps what was found.
judged(New, Found, #state{seen = Seen, readings = Readings, findings = Findings} = State) ->
    There = maps:keys(Seen),
    All = maps:filter(fun(_, List) -> List =/= [] end, maps:with(There, maps:merge(Findings, Found))),
    First = map_size(Readings) =:= 0 andalso map_size(New) > 0,
    true = First orelse ets:insert(?TABLE, {verdict, lists:sublist(worst_first([{Name, Finding} || {Name, List} <- maps:to_list(All),
                                                                                                  Finding <- List]), 20)}),
    State#state{readings = maps:with(There, maps:merge(Readings, New)), findings = All}.

worst_first(Findings) -> [Finding || {_, Finding} <- lists:keysort(1, [{-sockpool_event_table:rank(Severity), Finding} || {_, #{severity := Severity}} = Finding <- Findings])].
