%%% @private
%%% Metrics as text, in the format of Prometheus (0.0.4) or of OpenMetrics (1.0.0).
%%%
%%% Rules that are easily broken: all lines of a family stand together, and in it those of one histogram; a bucket counts those
%%% before it, too; `le' is a float, since Prometheus 3 takes "1" for "1.0"; OpenMetrics ends with a line that says so.
%%%
%%% The lines of one pool are appended to one binary, of which each family gets its part. That costs a fraction of what the same
%%% does as a list of small pieces, and of a pool no more is kept than its text.
-module(sockpool_metrics_text).

-export([families/2, of_pool/2, text/3]).
-export_type([format/0, bounds/0, family/0]).

-type format() :: prometheus | openmetrics.
%% For each bucket its bound as it is written; `skip': it is counted with the next. The last one is not skipped.
-type bounds() :: [binary() | skip].
-opaque family() :: {sockpool_metrics_table:family(), Begin :: binary(), LabelBegins :: [binary()], [binary() | skip]}.

%% The VM takes what is appended to a binary for nothing: a time slice would be some milliseconds.
-define(REDUCTIONS_OF_LINE, 12).

%% @doc What is the same for all pools.
-spec families([sockpool_metrics_table:family()], bounds()) -> [family()].
families(Families, Bounds) ->
    Les = [case Bound of skip -> skip; _ -> <<",le=\"", Bound/binary, "\"} ">> end || Bound <- Bounds],
    [{Family, begin_of(Family), [<<",", Label/binary, "=\"">> || Label <- Labels], Les} || #{labels := Labels} = Family <- Families].

begin_of(#{pool_label := none} = Family) -> <<(sockpool_metrics_table:sample_name(Family))/binary, "{">>;
begin_of(#{type := histogram, pool_label := Label}) -> <<Label/binary, "=\"">>;
begin_of(#{pool_label := Label} = Family) -> <<(sockpool_metrics_table:sample_name(Family))/binary, "{", Label/binary, "=\"">>.

%% @doc The lines of a pool in each family, or of the node in those that are of no pool.
-spec of_pool([family()], sockpool_metrics_table:pool()) -> [binary()].
of_pool(Families, #{label := Label} = Pool) ->
    of_pool(Families, Pool, <<(escaped(Label))/binary, "\"">>, <<>>, [0]).

of_pool([Family | Families], Pool, Label, Text0, Ends) ->
    Text = append(Family, Pool, Label, Text0),
    of_pool(Families, Pool, Label, Text, [byte_size(Text) | Ends]);
of_pool([], _Pool, _Label, Text, Ends) ->
    parts(Text, Ends, []).

parts(Text, [End, Begin | Ends], Parts) ->
    parts(Text, [Begin | Ends], [binary:part(Text, Begin, End - Begin) | Parts]);
parts(_Text, [0], Parts) ->
    Parts.

%% @doc All of it, from the lines of each pool.
-spec text(format(), [family()], [[binary()]]) -> iodata().
text(Format, Families, Pools) ->
    None = [[] || _ <- Families],
    Lines = lists:foldr(fun(Parts, Of) -> lists:zipwith(fun(Part, Parts1) -> [Part | Parts1] end, Parts, Of) end, None, Pools),
    [lists:zipwith(fun({Family, _, _, _} = Prepared, Of) -> [head(Format, Family), of_node(Prepared) | Of] end, Families, Lines)
     | tail(Format)].

%% What stands between the quotes of a label. A byte of 0 would end the text for some who read it.
escaped(Text) -> << <<(escaped_char(Char))/binary>> || <<Char>> <= Text >>.

escaped_char($\\) -> <<"\\\\">>;
escaped_char($") -> <<"\\\"">>;
escaped_char($\n) -> <<"\\n">>;
escaped_char(0) -> <<16#FFFD/utf8>>;
escaped_char(Char) -> <<Char>>.

tail(prometheus) -> [];
tail(openmetrics) -> <<"# EOF\n">>.

head(prometheus, #{type := Type, help := Help} = Family) ->
    Name = sockpool_metrics_table:sample_name(Family),
    [<<"# HELP ">>, Name, $\s, Help, <<"\n# TYPE ">>, Name, $\s, plain_type(Type), $\n];
head(openmetrics, #{name := Name, type := Type, unit := Unit, help := Help}) ->
    [<<"# TYPE ">>, Name, $\s, type(Type), $\n,
     [[<<"# UNIT ">>, Name, <<" seconds\n">>] || Unit =:= seconds],
     <<"# HELP ">>, Name, $\s, Help, $\n].

plain_type(info) -> <<"gauge">>;
plain_type(Type) -> type(Type).

type(Type) -> atom_to_binary(Type, utf8).

of_node({#{pool_label := none, source := Source}, Begin, Labels, _Les}) ->
    [[Begin, tl(binary_to_list(iolist_to_binary([[Label, escaped(Word), $"] || {Label, Word} <- lists:zip(Labels, Words)]))), <<"} ">>,
      number(Value), $\n] || {Words, Value} <- sockpool_metrics_table:samples(Source, node)];
of_node(_Family) ->
    [].

append({#{pool_label := none}, _Begin, _Labels, _Les}, _Pool, _Label, Text) ->
    Text;
append({#{type := histogram, name := Name, source := Source}, Begin, Labels, Les}, Pool, Label, Text) ->
    histograms(sockpool_metrics_table:samples(Source, Pool), Name, <<Begin/binary, Label/binary>>, Labels, Les, Text);
append({#{source := Source}, Begin, Labels, _Les}, Pool, Label, Text) ->
    Samples = sockpool_metrics_table:samples(Source, Pool),
    true = erlang:bump_reductions(length(Samples) * ?REDUCTIONS_OF_LINE),
    lines(Samples, <<Begin/binary, Label/binary>>, Labels, Text).

lines([], _Begin, _Labels, Text) ->
    Text;
lines([{[], Value} | Samples], Begin, [] = Labels, Text) ->
    lines(Samples, Begin, Labels, <<Text/binary, Begin/binary, "} ", (number(Value))/binary, "\n">>);
lines([{[Word], Value} | Samples], Begin, [Label] = Labels, Text) ->
    lines(Samples, Begin, Labels, <<Text/binary, Begin/binary, Label/binary, Word/binary, "\"} ", (number(Value))/binary, "\n">>).

histograms([], _Name, _Begin, _Labels, _Les, Text) ->
    Text;
histograms([{[], Histogram} | Samples], Name, Begin, [] = Labels, Les, Text) ->
    histograms(Samples, Name, Begin, Labels, Les, histogram(Histogram, Name, Begin, Les, Text));
histograms([{[Word], Histogram} | Samples], Name, Begin, [Label] = Labels, Les, Text) ->
    All = <<Begin/binary, Label/binary, Word/binary, "\"">>,
    histograms(Samples, Name, Begin, Labels, Les, histogram(Histogram, Name, All, Les, Text)).

histogram(#{count := Count, sum := Sum, buckets := Buckets}, Name, Labels, Les, Text) ->
    true = erlang:bump_reductions(length(Buckets) * ?REDUCTIONS_OF_LINE),
    Counted = buckets(Les, Buckets, 0, <<Name/binary, "_bucket{", Labels/binary>>, Text),
    <<Counted/binary, Name/binary, "_sum{", Labels/binary, "} ", (decimal(Sum, 1000000, 6))/binary, "\n",
      Name/binary, "_count{", Labels/binary, "} ", (integer_to_binary(Count))/binary, "\n">>.

buckets([skip | Les], [Count | Counts], Sum, Begin, Text) ->
    buckets(Les, Counts, Sum + Count, Begin, Text);
buckets([Le | Les], [Count | Counts], Sum, Begin, Text) ->
    buckets(Les, Counts, Sum + Count, Begin,
            <<Text/binary, Begin/binary, Le/binary, (integer_to_binary(Sum + Count))/binary, "\n">>);
buckets([], [], _Sum, _Begin, Text) ->
    Text.

number({ms, Ms}) -> decimal(Ms, 1000, 3);
number(Number) -> integer_to_binary(Number).

decimal(Number, Scale, Digits) ->
    Rest = integer_to_binary(Number rem Scale),
    Zeros = binary:part(<<"000000">>, 0, Digits - byte_size(Rest)),
    <<(integer_to_binary(Number div Scale))/binary, ".", Zeros/binary, Rest/binary>>.
