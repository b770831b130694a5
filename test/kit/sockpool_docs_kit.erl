%%% The README and the documents in docs/, and the blocks of code in them. A block begins with three backquotes and
%%% a word that says in what language it is; a second word is the name of the file to which it belongs.
-module(sockpool_docs_kit).

-export([documents/0, lines/1, prose/1, blocks/1, file/2]).

-import(sockpool_test_util, [root/0]).

-type block() :: {Language :: string(), File :: string(), Line :: pos_integer(), Text :: string()}.

-spec documents() -> [file:filename()].
documents() -> ["README.md" | filelib:wildcard("docs/*.md", root())].

-spec lines(file:filename()) -> [string()].
lines(Document) ->
    {ok, Text} = file:read_file(filename:join(root(), Document)),
    string:split(unicode:characters_to_list(Text), "\n", all).

%% The lines that are in no block.
-spec prose([string()]) -> [string()].
prose([]) -> [];
prose(["```" ++ _ | Rest]) -> prose(tl(lists:dropwhile(fun(Line) -> Line =/= "```" end, Rest)));
prose([Line | Rest]) -> [Line | prose(Rest)].

%% In their order; a block that is of no file has the name "".
-spec blocks(file:filename()) -> [block()].
blocks(Document) -> blocks(lines(Document), 1).

blocks([], _Line) ->
    [];
blocks(["```" ++ Info | Rest], Line) ->
    {Text, ["```" | After]} = lists:splitwith(fun(Each) -> Each =/= "```" end, Rest),
    {Language, File} = case string:split(Info, " ") of
                           [Only] -> {Only, ""};
                           [First, Second] -> {First, Second}
                       end,
    [{Language, File, Line, lists:append([Each ++ "\n" || Each <- Text])}
     | blocks(After, Line + length(Text) + 2)];
blocks([_ | Rest], Line) ->
    blocks(Rest, Line + 1).

%% The text of the block that is that file.
-spec file(file:filename(), string()) -> string().
file(Document, File) ->
    [Text] = [Text || {_, Name, _, Text} <- blocks(Document), Name =:= File],
    Text.
