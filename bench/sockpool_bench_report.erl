%% @doc What the reader sees: progress lines, tables, and the JSON file.
-module(sockpool_bench_report).

-export([progress/2, progress_cell/3, progress_outcome/2, progress_end/0]).
-export([table/1, goals/1, checks/1, problems/1, json/2]).
-export_type([check/0]).

%% A figure that is right or wrong, such as a count after the leak test.
-type check() :: #{run := atom(), text := binary(), value := term(), ok := boolean()}.

%% Progress

-spec progress(io:format(), [term()]) -> ok.
progress(Format, Args) ->
    io:format("~n== " ++ Format ++ "~n", Args).

-spec progress_cell(Run :: atom(), {pos_integer(), pos_integer()}, sockpool_bench_rounds:cell()) ->
          ok.
progress_cell(Run, {Round, Rounds}, #{processes := Processes, target := Target}) ->
    #{size := Size, max_overflow := Overflow} = Target,
    io:format("~s ~b/~b, ~b processes, ~b connections:", [Run, Round, Rounds, Processes,
                                                           Size + Overflow]).

-spec progress_outcome(sockpool_bench_peers:name(), sockpool_bench_load:outcome()) -> ok.
progress_outcome(Peer, {ok, #{ops_per_s := OpsPerSecond, errors := Errors}}) ->
    io:format(" ~s ~s/s", [Peer, short(OpsPerSecond)]),
    maps:size(Errors) > 0 andalso io:format(" (~b errors)", [lists:sum(maps:values(Errors))]),
    ok;
progress_outcome(Peer, {skipped, _}) ->
    io:format(" ~s skipped", [Peer]);
progress_outcome(Peer, {failed, _}) ->
    io:format(" ~s FAILED", [Peer]).

-spec progress_end() -> ok.
progress_end() ->
    io:nl().

%% Tables

-define(ROW, "~-17s ~6s ~6s  ~-36s ~9s ~9s ~9s ~9s ~9s ~9s ~7s  ~s~n").

-spec table([sockpool_bench_rounds:summary()]) -> ok.
table([]) ->
    ok;
table(Rows) ->
    io:format("~nRESULTS (medians of the rounds; max: the worst; latencies per operation)~n~n"),
    io:format(?ROW, ["run", "procs", "conns", "client", "ops", "ops/s", "p50", "p99", "max",
                     "x poolboy", "x limit", "errors"]),
    _ = lists:foldl(fun row/2, none, Rows),
    ok.

%% A blank line between blocks of rows that compare with each other.
row(Row = #{run := Run, processes := Processes, connections := Connections}, Block) ->
    Here = {Run, Processes, Connections},
    Block =/= none andalso Block =/= Here andalso io:nl(),
    io:format(?ROW, [atom_to_list(Run), integer_to_list(Processes), integer_to_list(Connections)
                     | columns(Row)]),
    Here.

columns(Row = #{peer := Peer, ops := Ops, ops_per_s := OpsPerSecond}) ->
    #{p50_us := P50, p99_us := P99, max_us := Max, errors := Errors, status := Status,
      to_poolboy := ToPoolboy, to_limit := ToLimit} = Row,
    [label(Peer), integer_to_list(Ops), short(OpsPerSecond), duration(P50), duration(P99),
     duration(Max), ratio(ToPoolboy), ratio(ToLimit), errors(Errors) ++ status(Status)];
columns(#{peer := Peer, status := Status}) ->
    [label(Peer), "-", "-", "-", "-", "-", "-", "-", status(Status)].

label(Peer) ->
    #{label := Label} = sockpool_bench_peers:peer(Peer),
    Label.

errors(Errors) when map_size(Errors) =:= 0 ->
    "none";
errors(Errors) ->
    lists:join(", ", [io_lib:format("~b x ~p", [Count, Reason])
                      || {Reason, Count} <- lists:sort(maps:to_list(Errors))]).

status(measured) -> "";
status({skipped, Why}) -> " not run: " ++ Why;
status({failed, Reason}) -> io_lib:format(" FAILED: ~0p", [Reason]).

-spec goals([sockpool_bench_goals:verdict()]) -> ok.
goals([]) ->
    ok;
goals(Verdicts) ->
    io:format("~nGOALS (median, and the rounds it is the median of)~n~n"),
    io:format("~-72s ~8s ~8s ~8s  ~-12s ~s~n",
              ["figure", "median", "floor", "aim", "verdict", "rounds"]),
    lists:foreach(fun goal/1, Verdicts),
    io:format("~n~s~n", [tally(Verdicts)]).

goal(#{goal := Text, values := Values, median := Median, floor := Floor, aim := Aim,
       better := Better, verdict := Verdict}) ->
    io:format("~-72s ~8s ~8s ~8s  ~-12s ~s~n",
              [Text, number(Median), bound(Better, Floor), bound(Better, Aim), verdict(Verdict),
               lists:join(" ", [number(V) || V <- Values])]).

verdict(aim_met) -> "aim met";
verdict(floor_met) -> "floor met";
verdict(missed) -> "BELOW FLOOR";
verdict(not_measured) -> "NOT MEASURED".

bound(more, Value) -> ">=" ++ number(Value);
bound(less, Value) -> "<=" ++ number(Value).

tally(Verdicts) ->
    Count = fun(Wanted) -> length([V || #{verdict := V} <- Verdicts, V =:= Wanted]) end,
    io_lib:format("~b aims met, ~b floors met, ~b BELOW THE FLOOR, ~b not measured",
                  [Count(aim_met), Count(floor_met), Count(missed), Count(not_measured)]).

-spec checks([check()]) -> ok.
checks([]) ->
    ok;
checks(Checks) ->
    io:format("~nCHECKS~n~n"),
    lists:foreach(fun(#{run := Run, text := Text, value := Value, ok := Ok}) ->
                          io:format("~-12s ~-86s ~12s  ~s~n",
                                    [Run, Text, number(Value), passed(Ok)])
                  end, Checks).

passed(true) -> "ok";
passed(false) -> "WRONG".

-spec problems([string()]) -> ok.
problems([]) ->
    io:format("~nEvery run was done, and sockpool had no error.~n");
problems(Problems) ->
    io:format("~nPROBLEMS~n~n"),
    lists:foreach(fun(Problem) -> io:format("  ~s~n", [Problem]) end, Problems).

%% Figures

number(undefined) -> "-";
number(Value) when is_boolean(Value) -> atom_to_list(Value);
number(Value) when is_integer(Value) -> integer_to_list(Value);
number(Value) when is_float(Value) -> float_to_list(Value, [{decimals, 2}]).

ratio(undefined) -> "-";
ratio(Value) -> number(float(Value)).

short(Value) when Value >= 1.0e6 -> io_lib:format("~.2f M", [Value / 1.0e6]);
short(Value) when Value >= 1.0e4 -> io_lib:format("~.1f k", [Value / 1.0e3]);
short(Value) -> io_lib:format("~b", [round(Value)]).

duration(undefined) -> "-";
duration(Us) when Us >= 1.0e6 -> io_lib:format("~.2f s", [Us / 1.0e6]);
duration(Us) when Us >= 1.0e3 -> io_lib:format("~.2f ms", [Us / 1.0e3]);
duration(Us) -> io_lib:format("~.1f us", [float(Us)]).

%% JSON

%% @doc Writes a term of maps, lists, binaries, numbers and atoms to a file under bench/results.
-spec json(Name :: string(), map()) -> file:filename().
json(Name, Term) ->
    File = sockpool_bench_paths:result(Name),
    ok = file:write_file(File, [jiffy:encode(plain(Term), [pretty]), $\n]),
    File.

plain(undefined) -> null;
plain(Term) when is_boolean(Term); is_number(Term); is_binary(Term) -> Term;
plain(Term) when is_atom(Term) -> atom_to_binary(Term);
plain(Term) when is_map(Term) ->
    maps:from_list([{key(Key), plain(Value)} || {Key, Value} <- maps:to_list(Term)]);
plain(Term) when is_list(Term) -> [plain(Value) || Value <- Term];
plain(Term) -> text(Term).

key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) when is_binary(Key) -> Key;
key(Key) -> text(Key).

text(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).
