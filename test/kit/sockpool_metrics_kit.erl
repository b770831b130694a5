%%% Reads metrics as text, by the rules of the two formats; each that is broken is an error.
-module(sockpool_metrics_kit).

-include_lib("stdlib/include/assert.hrl").

-export([read/2, value/3, promtool/3, has_promtool/0]).

-type labels() :: #{string() => string()}.
-type families() :: #{string() => #{type := string(), help := string(), unit => string(),
                                    samples := [{Name :: string(), labels(), float()}]}}.

-spec read(prometheus | openmetrics, iodata()) -> families().
read(Format, Text) ->
    Whole = unicode:characters_to_list(iolist_to_binary(Text)),
    ?assertEqual($\n, lists:last(Whole)),
    Lines = lists:droplast(string:split(Whole, "\n", all)),
    Families = families(without_end(Format, Lines), #{}),
    _ = maps:map(fun(Name, Family) -> check(Format, Name, Family) end, Families),
    Families.

without_end(prometheus, Lines) ->
    ?assertNot(lists:member("# EOF", Lines)),
    Lines;
without_end(openmetrics, Lines) ->
    {Before, ["# EOF"]} = lists:split(length(Lines) - 1, Lines),
    ?assertNot(lists:member("# EOF", Before)),
    Before.

%% A family begins with what is said of it. It comes once: its lines stand together.
families([], Families) ->
    Families;
families(["# " ++ _ | _] = Lines, Families) ->
    {Said, Rest} = lists:splitwith(fun(Line) -> lists:prefix("# ", Line) end, Lines),
    {Blocks, Rest1} = blocks(Said, Rest),
    families(Rest1, lists:foldl(fun({Name, Family}, Acc) ->
                                        ?assertNot(maps:is_key(Name, Acc), Name),
                                        Acc#{Name => Family}
                                end, Families, Blocks)).

%% Families without a sample are followed by what is said of the next.
blocks(Said, Rest) ->
    Names = lists:foldl(fun(Line, Acc) ->
                                {_, Name, _} = about(Line),
                                case lists:member(Name, Acc) of true -> Acc; false -> Acc ++ [Name] end
                        end, [], Said),
    {Lines, Rest1} = lists:splitwith(fun(Line) -> not lists:prefix("# ", Line) end, Rest),
    Last = lists:last(Names),
    {[{Name, maps:from_list([{samples, [sample(Line) || Line <- Lines, Name =:= Last]}
                             | [{Kind, Text} || {Kind, Of, Text} <- lists:map(fun about/1, Said), Of =:= Name]])}
      || Name <- Names], Rest1}.

about("# " ++ Line) ->
    [Kind, Rest] = string:split(Line, " "),
    [Name, Text] = string:split(Rest, " "),
    {maps:get(Kind, #{"HELP" => help, "TYPE" => type, "UNIT" => unit}), Name, Text}.

sample(Line) ->
    {match, [Name, Labels, Value]} = re:run(Line, "^([a-zA-Z_:][a-zA-Z0-9_:]*)\\{((?:[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\\\n]|\\\\[\\\\\"n])*\",?)*)\\} ([0-9.]+)$",
                                            [{capture, all_but_first, list}, unicode]),
    Pairs = case re:run(Labels, "([a-zA-Z_][a-zA-Z0-9_]*)=\"((?:[^\"\\\\\n]|\\\\[\\\\\"n])*)\"(?:,|$)",
                        [global, {capture, all_but_first, list}, unicode]) of
                {match, All} -> [{Key, plain(Text)} || [Key, Text] <- All];
                nomatch -> []
            end,
    ?assertEqual(length(Pairs), maps:size(maps:from_list(Pairs)), Line),
    {Name, maps:from_list(Pairs), number(Value)}.

plain("\\\\" ++ Rest) -> [$\\ | plain(Rest)];
plain("\\\"" ++ Rest) -> [$" | plain(Rest)];
plain("\\n" ++ Rest) -> [$\n | plain(Rest)];
plain([Char | Rest]) -> [Char | plain(Rest)];
plain("") -> "".

number(Text) ->
    case string:to_integer(Text) of
        {Integer, ""} -> float(Integer);
        _ -> list_to_float(Text)
    end.

check(Format, Name, #{type := Type, help := Help, samples := Samples} = Family) ->
    ?assertNotEqual("", Help),
    ?assert(lists:member(Type, types(Format)), {Name, Type}),
    ?assertEqual(length(Samples), length(lists:usort([{Of, Labels} || {Of, Labels, _} <- Samples])), Name),
    unit(Format, Name, Family),
    [] = [Wrong || {Of, _, _} = Wrong <- Samples, not lists:member(Of, names(Format, Type, Name))],
    _ = Type =:= "histogram" andalso histogram(Name, Samples).

types(prometheus) -> ["gauge", "counter", "histogram"];
types(openmetrics) -> ["info" | types(prometheus)].

%% A unit is what the name ends in, and is said where OpenMetrics has a place for it.
unit(openmetrics, Name, Family) ->
    Unit = maps:get(unit, Family, "none"),
    ?assertEqual(lists:suffix("_seconds", Name), Unit =:= "seconds", Name),
    ?assert(lists:member(Unit, ["none", "seconds"]));
unit(prometheus, _Name, Family) ->
    ?assertNot(maps:is_key(unit, Family)).

names(prometheus, "counter", Name) ->
    ?assert(lists:suffix("_total", Name), Name),
    [Name];
names(openmetrics, "counter", Name) ->
    ?assertNot(lists:suffix("_total", Name), Name),
    [Name ++ "_total"];
names(openmetrics, "info", Name) -> [Name ++ "_info"];
names(_Format, "gauge", Name) -> [Name];
names(_Format, "histogram", Name) -> [Name ++ End || End <- ["_bucket", "_sum", "_count"]].

%% The lines of one stand together, its bounds rise, the last is all, and each bucket counts those before it, too.
histogram(Name, []) -> Name;
histogram(Name, [{_, Labels, _} | _] = Samples) ->
    Key = maps:remove("le", Labels),
    {Of, Rest} = lists:splitwith(fun({_, Each, _}) -> maps:remove("le", Each) =:= Key end, Samples),
    [] = [Again || {_, Again, _} <- Rest, maps:remove("le", Again) =:= Key],
    Bucket = Name ++ "_bucket",
    Buckets = [{bound(maps:get("le", Each)), Count} || {Each0, Each, Count} <- Of, Each0 =:= Bucket],
    {Bounds, Counts} = lists:unzip(Buckets),
    ?assertEqual(lists:usort(Bounds), Bounds),
    ?assertEqual(infinity, lists:last(Bounds)),
    ?assertEqual(lists:sort(Counts), Counts),
    [_Sum] = [Sum || {Each, _, Sum} <- Of, Each =:= Name ++ "_sum"],
    ?assertEqual([lists:last(Counts)], [Count || {Each, _, Count} <- Of, Each =:= Name ++ "_count"]),
    histogram(Name, Rest).

%% A float, as canonical as OpenMetrics wants it.
bound("+Inf") -> infinity;
bound(Text) ->
    Float = try list_to_float(Text) catch error:badarg -> list_to_float(re:replace(Text, "^([0-9]+)e", "\\1.0e", [{return, list}])) end,
    ?assert(lists:member($., Text) orelse lists:member($e, Text), Text),
    Float.

%% Of the sample that has these labels.
-spec value(string(), labels(), families()) -> float() | none.
value(Name, Labels, Families) ->
    case [Value || #{samples := Samples} <- maps:values(Families), {Of, Has, Value} <- Samples, Of =:= Name, Has =:= Labels] of
        [Value] -> Value;
        [] -> none
    end.

-spec has_promtool() -> boolean().
has_promtool() -> os:find_executable("promtool") =/= false.

%% What it says of the text, and how it ends.
-spec promtool(file:filename(), string(), iodata()) -> {integer(), string()}.
promtool(Dir, Command, Text) ->
    File = filename:join(Dir, "promtool.txt"),
    ok = file:write_file(File, Text),
    Port = open_port({spawn_executable, os:find_executable("sh")},
                     [{args, ["-c", "promtool " ++ Command ++ " <'" ++ File ++ "' 2>&1"]}, exit_status, binary]),
    said(Port, <<>>).

said(Port, Text) ->
    receive
        {Port, {data, More}} -> said(Port, <<Text/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, binary_to_list(Text)}
    end.
