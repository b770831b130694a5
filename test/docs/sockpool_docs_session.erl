%%% A shell for sockpool_docs_SUITE, in a VM of its own: it takes what a document has a reader type, and keeps the
%%% variables.
-module(sockpool_docs_session).

-export([start/1, type/1, settled/0]).

%% In that directory.
-spec start(file:filename()) -> ok.
start(Dir) ->
    ok = file:set_cwd(Dir),
    true = register(?MODULE, spawn(fun() -> shell(erl_eval:new_bindings()) end)),
    ok.

%% What the shell would say of the first expression that raises.
-spec type(string()) -> ok | {error, Said :: iolist()}.
type(Text) ->
    Monitor = monitor(process, ?MODULE),
    ?MODULE ! {type, self(), Text},
    receive
        {typed, Result} -> true = demonitor(Monitor, [flush]), Result;
        {'DOWN', Monitor, process, _, Reason} -> {error, io_lib:format("the shell died: ~tp", [Reason])}
    end.

shell(Bindings) ->
    receive
        {type, From, Text} ->
            {Result, Next} = typed(expressions(Text), Bindings),
            From ! {typed, Result},
            shell(Next);
        %% As a shell, which is linked to what is started in it.
        _Other ->
            shell(Bindings)
    end.

typed([], Bindings) ->
    {ok, Bindings};
typed([{Line, Expression} | Rest], Bindings) ->
    try erl_eval:exprs(Expression, Bindings, {value, fun shell_command/2}) of
        {value, _, Next} -> typed(Rest, Next)
    catch
        Class:Reason:Stack ->
            {{error, io_lib:format("line ~b of the block: ~tp ~tp~n~tp", [Line, Class, Reason, Stack])}, Bindings}
    end.

%% `c("file.erl")' and the like.
shell_command(Name, Args) -> apply(shell_default, Name, Args).

expressions(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    [begin
         {ok, Expression} = erl_parse:parse_exprs(One),
         {erl_scan:line(hd(One)), Expression}
     end || One <- at_dots(Tokens, [])].

%% Nothing comes behind the last dot.
at_dots([], []) -> [];
at_dots([{dot, _} = Dot | Rest], Before) -> [lists:reverse([Dot | Before]) | at_dots(Rest, [])];
at_dots([Token | Rest], Before) -> at_dots(Rest, [Token | Before]).

%% Whether all pools are as they are while their reader reads.
-spec settled() -> boolean().
settled() ->
    whereis(sockpool_sup) =:= undefined orelse lists:all(fun is_settled/1, element(2, sockpool:stats())).

is_settled(#{total := Total, connecting := Connecting, size := Size}) -> Connecting =:= 0 andalso Total >= Size.
