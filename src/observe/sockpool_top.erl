%%% @private
%%% A live table of pools for a shell: see sockpool:top/0,1.
%%%
%%% Commands are lines, since a shell gives no single keys: not on OTP 25, and over `--remsh' on none. So the process that
%%% calls reads lines of its group leader, and one that is linked to it draws; it ends with the caller, and no request
%%% for a line is left behind when it does.
-module(sockpool_top).

-export([run/1]).
-export([table/3, detail/3]).
-export_type([options/0, sort/0, row/0]).

-type sort() :: name | in_use | waiting | oldest | rate | errors.
-type options() :: #{node => node(), interval => Ms :: pos_integer(), sort => sort()}.
-type row() :: #{stats := sockpool:stats(), rate := number(), errors := number()}.

-record(state, {caller :: pid(),
                node :: node(),
                interval :: pos_integer(),
                sort :: sort(),
                %% of all pools, of the drawing before this one
                before = #{} :: #{atom() => {At :: integer(), sockpool:stats()}},
                %% of those that were shown
                readings = #{} :: #{atom() => sockpool_verdict:snapshot()},
                shown = [] :: [atom()],
                detail :: atom() | undefined}).

-define(INTERVAL_MS, 1000).
-define(MIN_INTERVAL_MS, 100).
%% Where the group leader does not know its size.
-define(COLUMNS, 100).
-define(LINES, 30).
%% Lines that are no pools.
-define(AROUND, 6).
-define(NAME_CHARS, 24).
-define(CLEAR, "\e[H\e[2J").

%% @doc Returns when it is told to quit, or there are no more lines.
-spec run(options() | [{atom(), term()}]) -> ok | {error, sockpool:reason()}.
run(Given) ->
    case sockpool_given:map(Given, [node, interval, sort]) of
        {ok, Opts} when map_size(Opts) =< 3 -> checked(Opts, maps:merge(#{node => node(), interval => ?INTERVAL_MS, sort => waiting}, Opts));
        _ -> {error, {bad_argument, opts, Given}}
    end.

checked(_Given, #{node := Node, interval := Ms, sort := Sort} = Opts)
  when map_size(Opts) =:= 3, is_atom(Node), is_integer(Ms), Ms >= ?MIN_INTERVAL_MS, Ms =< 16#ffffffff ->
    case lists:keymember(Sort, 2, keys()) andalso sockpool:which_pools(Node) of
        false -> {error, {bad_argument, opts, Opts}};
        {error, _} = Error -> Error;
        {ok, _} -> start(#state{caller = self(), node = Node, interval = Ms, sort = Sort})
    end;
checked(Given, _Opts) ->
    {error, {bad_argument, opts, Given}}.

start(State) ->
    Drawing = spawn_link(fun() -> draw(State) end),
    Monitor = monitor(process, Drawing),
    ok = read(Drawing),
    true = unlink(Drawing),
    Drawing ! stop,
    receive {'DOWN', Monitor, process, Drawing, _} -> ok end,
    receive {'EXIT', Drawing, _} -> ok after 0 -> ok end.

read(Drawing) ->
    case io:get_line("") of
        Line when is_list(Line); is_binary(Line) ->
            case string:lowercase(string:trim(unicode:characters_to_list(Line))) of
                "q" -> ok;
                Command -> Drawing ! {command, Command}, read(Drawing)
            end;
        _EofOrError ->
            ok
    end.

%%% Drawing.

draw(State) ->
    Next = drawn(State),
    wait(sockpool_wait:deadline(State#state.interval), Next).

wait(Deadline, State) ->
    receive
        stop -> ok;
        {command, Command} -> draw(commanded(Command, State))
    after sockpool_wait:left(Deadline) ->
        draw(State)
    end.

keys() -> [{"n", name}, {"u", in_use}, {"w", waiting}, {"o", oldest}, {"r", rate}, {"e", errors}].

commanded("b", State) ->
    State#state{detail = undefined};
commanded(Command, #state{shown = Shown} = State) ->
    case {lists:keyfind(Command, 1, keys()), string:to_integer(Command)} of
        {{_, Sort}, _} -> State#state{sort = Sort, detail = undefined};
        {false, {Number, ""}} when is_integer(Number), Number >= 1, Number =< length(Shown) ->
            State#state{detail = lists:nth(Number, Shown)};
        _ -> State
    end.

drawn(#state{node = Node, before = Before} = State) ->
    Now = erlang:monotonic_time(millisecond),
    case sockpool:node_stats(Node) of
        {ok, All} ->
            Rows = [row(Stats, Now, Before) || Stats <- All],
            Next = shown(Rows, State),
            Next#state{before = maps:from_list([{Name, {Now, Stats}} || #{name := Name} = Stats <- All])};
        {error, Reason} ->
            ok = put_page(["sockpool: ", atom_to_list(Node), ": ", sockpool_error:format(Reason), "\n\n", help(table)]),
            State
    end.

row(#{name := Name} = Stats, Now, Before) ->
    case Before of
        #{Name := {At, Old}} when Now > At ->
            Per = fun(Count) -> max(0, Count(Stats) - Count(Old)) * 1000 / (Now - At) end,
            #{stats => Stats, rate => Per(fun served/1), errors => Per(fun refused/1)};
        #{} ->
            #{stats => Stats, rate => 0, errors => 0}
    end.

served(Stats) -> maps:get(checkouts, Stats) + maps:get(pipelined, Stats, 0).

refused(Stats) -> lists:sum(maps:values(maps:get(errors, Stats, #{}))).

shown(Rows, #state{detail = undefined, sort = Sort} = State) ->
    {Columns, Lines} = size(),
    Top = lists:sublist(sorted(Sort, Rows), max(1, Lines - ?AROUND)),
    Names = [Name || #{stats := #{name := Name}} <- Top],
    Readings = readings(Names, State),
    ok = put_page([title(length(Rows), State), table([{Row, told(Name, Readings, State)} || #{stats := #{name := Name}} = Row <- Top], Sort, Columns),
                   "\n", help(table)]),
    State#state{shown = Names, readings = Readings};
shown(_Rows, #state{detail = Name} = State) ->
    {Columns, _Lines} = size(),
    Readings = readings([Name], State),
    ok = put_page([detail(maps:get(Name, State#state.readings, maps:get(Name, Readings)), maps:get(Name, Readings), Columns), "\n", help(detail)]),
    State#state{readings = Readings}.

%% Of those that are shown alone: it costs more than the figures of all.
readings(Names, #state{node = Node}) ->
    maps:from_list([{Name, Reading} || Name <- Names, {ok, Reading} <- [sockpool_verdict:snapshot(pool(Name, Node))]]).

pool(Name, Node) when Node =:= node() -> Name;
pool(Name, Node) -> {Name, Node}.

%% What is wrong, and how long a lease takes.
told(Name, Readings, #state{readings = Before}) ->
    case Readings of
        #{Name := Now} -> {sockpool_verdict:findings(maps:get(Name, Before, Now), Now), times(Now)};
        #{} -> {[], #{}}
    end.

times(#{histograms := Histograms}) -> Histograms;
times(_Reading) -> #{}.

title(Count, #state{node = Node, sort = Sort, interval = Ms}) ->
    io_lib:format("sockpool ~ts  pools ~b  sorted by ~ts  every ~b ms~n~n", [Node, Count, Sort, Ms]).

help(table) ->
    "q quit; a pool's number for its detail; sort: " ++ lists:append(lists:join(", ", [Key ++ " " ++ atom_to_list(Sort) || {Key, Sort} <- keys()]))
        ++ " (each with Enter)\n";
help(detail) ->
    "q quit; b back (with Enter)\n".

sorted(name, Rows) -> lists:sort(fun(#{stats := #{name := A}}, #{stats := #{name := B}}) -> A =< B end, Rows);
sorted(Sort, Rows) -> lists:sort(fun(A, B) -> {-value(Sort, A), name(A)} =< {-value(Sort, B), name(B)} end, Rows).

name(#{stats := #{name := Name}}) -> Name.

value(in_use, #{stats := #{leased := Leased}}) -> Leased;
value(waiting, #{stats := #{waiting := Waiting}}) -> Waiting;
value(oldest, #{stats := Stats}) -> maps:get(oldest_wait, Stats, 0);
value(rate, #{rate := Rate}) -> Rate;
value(errors, #{errors := Errors}) -> Errors.

%% @doc The table, by lines of that many columns.
-spec table([{row(), {[sockpool_verdict:finding()], map()}}], sort(), pos_integer()) -> iolist().
table(Rows, Sort, Columns) ->
    Names = [text(Name) || {#{stats := #{name := Name}}, _} <- Rows],
    Width = min(?NAME_CHARS, lists:max([5 | [string:length(Name) || Name <- Names]])),
    [line(Columns, heads(Width, Sort))
     | [line(Columns, cells(Width, Number, Name, Row, Told))
        || {Number, Name, {Row, Told}} <- lists:zip3(lists:seq(1, length(Rows)), Names, Rows)]].

%% The star is at what it is sorted by.
heads(Width, Sort) ->
    Head = fun(Of, Text) when Of =:= Sort -> Text ++ "*"; (_Of, Text) -> Text end,
    [right("", 4), " ", left(Head(name, "pool"), Width), right(Head(in_use, "in use"), 8), right("size", 8), right("idle", 6), right("conn", 6),
     right(Head(waiting, "wait"), 7), right(Head(oldest, "oldest"), 9), right(Head(rate, "per s"), 10), right("use p50", 9), right("p99", 8),
     right(Head(errors, "err/s"), 8), "  state"].

cells(Width, Number, Name, #{stats := Stats, rate := Rate, errors := Errors}, {Findings, Histograms}) ->
    #{size := Size, max_overflow := Overflow, idle := Idle, leased := Leased, connecting := Connecting, waiting := Waiting} = Stats,
    [right(integer_to_list(Number), 4), " ", left(Name, Width), right(integer_to_list(Leased), 8), right(io_lib:format("~b+~b", [Size, Overflow]), 8),
     right(integer_to_list(Idle), 6), right(integer_to_list(Connecting), 6), right(integer_to_list(Waiting), 7),
     right(case maps:get(oldest_wait, Stats, 0) of 0 -> "-"; Ms -> us(Ms * 1000) end, 9), right(number(Rate), 10),
     right(quantile(use, 0.5, Histograms), 9), right(quantile(use, 0.99, Histograms), 8), right(number(Errors), 8), "  ", state(Findings)].

state([]) -> "ok";
state([#{severity := notice, cause := Cause} | _]) -> atom_to_list(Cause);
state([#{severity := warning, cause := Cause} | _]) -> ["! ", atom_to_list(Cause)];
state([#{severity := error, cause := Cause} | _]) -> ["!! ", atom_to_list(Cause)].

%% @doc One pool: what is wrong, what there is, how long things take, why connections were closed, who has one for too long.
-spec detail(sockpool_verdict:snapshot(), sockpool_verdict:snapshot(), pos_integer()) -> iolist().
detail(Before, #{name := Name} = Now, Columns) ->
    Verdict = case sockpool_verdict:findings(Before, Now) of
                  [] -> [line(Columns, "ok: nothing is wrong")];
                  Findings -> [wrapped(Columns, [atom_to_list(Severity), ": ", text(Text)]) || #{severity := Severity, text := Text} <- Findings]
              end,
    [line(Columns, ["pool ", text(case Name of {Its, _Node} -> Its; _ -> Name end), server(Now)]), "\n", Verdict, "\n",
     [line(Columns, Line) || Line <- figures(Now)]].

server(#{facts := #{server := Server, transport := Transport}}) -> io_lib:format("  to ~ts by ~ts", [clean(Server), Transport]);
server(_Reading) -> "".

figures(#{stats := Stats} = Now) ->
    Figure = fun(Key) -> integer_to_list(maps:get(Key, Stats, 0)) end,
    Row = fun(Head, Keys) -> [left(Head, 13) | [[" ", atom_to_list(Key), " ", Figure(Key)] || Key <- Keys]] end,
    [Row("connections", [size, max_overflow, total, idle, leased, connecting]),
     Row("callers", [waiting, oldest_wait, waited, timeouts, checkouts, checkins, pipelined]),
     Row("lifetimes", [created, reused, closed, abandoned, leaked, deferred]),
     Row("attempts", [connect_attempts, connect_failures]),
     [left("closed by", 13), " ", counts(maps:get(closed_by, Stats, #{}))],
     [left("told", 13), " ", counts(maps:get(errors, Stats, #{}))],
     [left("last error", 13), " ", last_error(Stats)]]
        ++ quantiles(times(Now)) ++ held(Now);
figures(_Gone) ->
    [].

counts(Counts) ->
    case lists:sort([{-Count, Reason} || {Reason, Count} <- maps:to_list(Counts), Count > 0]) of
        [] -> "-";
        Sorted -> lists:join(", ", [io_lib:format("~ts ~b", [Reason, -Count]) || {Count, Reason} <- Sorted])
    end.

last_error(#{last_error := undefined}) -> "-";
last_error(#{last_error := Reason, last_error_at := At}) ->
    [clean(unicode:characters_to_list(sockpool_error:format({unavailable, Reason}))), ", ", calendar:system_time_to_rfc3339(At div 1000)].

quantiles(#{connect := Connect} = Histograms) ->
    [[left("times", 13), right("p50", 9), right("p90", 9), right("p99", 9), right("count", 12)]
     | [[left(What, 13), [right(quantile(Histogram, Bounds, Share), 9) || Share <- [0.5, 0.9, 0.99]], right(integer_to_list(Count), 12)]
        || Bounds <- [maps:get(bounds, Histograms)],
           {What, #{count := Count} = Histogram} <- [{"use", maps:get(use, Histograms)}, {"wait", maps:get(wait, Histograms)}]
                                                        ++ [{"connect", maps:get(total, Connect)}]
                                                        ++ [{[" ", atom_to_list(Phase)], maps:get(Phase, Connect)} || Phase <- [resolve, tcp, tls, init]]]];
quantiles(_None) ->
    [].

held(#{facts := #{held := [_ | _] = Held}}) ->
    ["held too long" | [io_lib:format("  ~tp~ts", [Owner, case InIo of true -> ", waits for bytes"; false -> "" end])
                        || #{owner := Owner, in_io := InIo} <- Held]];
held(_Reading) ->
    [].

%%% Texts.

quantile(Key, Share, #{bounds := Bounds} = Histograms) -> quantile(maps:get(Key, Histograms), Bounds, Share);
quantile(_Key, _Share, #{}) -> "-";
quantile(#{count := 0}, _Bounds, _Share) -> "-";
quantile(Histogram, Bounds, Share) -> us(sockpool_quantile:of_histogram(Share, Histogram, Bounds)).

us(Us) when Us < 1000 -> io_lib:format("~bus", [Us]);
us(Us) when Us < 1000000 -> io_lib:format("~bms", [Us div 1000]);
us(Us) when Us < 10000000 -> io_lib:format("~.1fs", [Us / 1000000]);
us(Us) -> io_lib:format("~bs", [Us div 1000000]).

number(Number) when Number == 0 -> "-";
number(Number) when Number < 10 -> io_lib:format("~.1f", [Number / 1]);
number(Number) -> integer_to_list(round(Number)).

%% A name is written as Erlang reads it: what a terminal would obey is not in it.
text(Name) when is_atom(Name) -> clean(lists:flatten(io_lib:format("~tp", [Name])));
text(Name) when is_reference(Name) -> lists:flatten(io_lib:format("~tp", [Name]));
text(Text) -> clean(unicode:characters_to_list(Text)).

clean(Text) -> [case Char < 32 orelse (Char >= 127 andalso Char < 160) of true -> $.; false -> Char end || Char <- Text].

left(Text, Width) -> string:slice(string:pad(Text, Width, trailing), 0, Width).
right(Text, Width) -> string:pad(Text, Width, leading).

line(Columns, Text) -> [string:trim(string:slice(unicode:characters_to_list(Text), 0, Columns - 1), trailing), "\n"].

%% What is wrong is not cut.
wrapped(Columns, Text) -> wrapped(Columns, "", string:lexemes(unicode:characters_to_list(Text), " ")).

wrapped(Columns, Line, [Word | Words]) when Line =:= ""; length(Line) + length(Word) + 1 < Columns ->
    wrapped(Columns, case Line of "" -> Word; _ -> Line ++ " " ++ Word end, Words);
wrapped(Columns, Line, [_ | _] = Words) ->
    [line(Columns, Line) | wrapped(Columns, "", Words)];
wrapped(Columns, Line, []) ->
    [line(Columns, Line)].

size() -> {asked(io:columns(), ?COLUMNS), asked(io:rows(), ?LINES)}.

asked({ok, Count}, _Default) -> Count;
asked({error, _}, Default) -> Default.

%% At once, or what others write would be within it.
put_page(Page) ->
    Text = unicode:characters_to_binary([?CLEAR, Page]),
    ok = io:put_chars(Text).
