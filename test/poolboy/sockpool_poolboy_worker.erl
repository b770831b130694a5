%%% Workers of the tests: servers that do as they are told when they start, and answer with what they were started with.
-module(sockpool_poolboy_worker).
-behaviour(gen_server).

-export([start_link/1, init/1, handle_call/3, handle_cast/2]).

%% `{init, Fun}' among the arguments: what the fun returns is what init/1 does.
start_link(Args) ->
    gen_server:start_link(?MODULE, Args, []).

init(Args) ->
    case is_list(Args) andalso proplists:get_value(init, Args) of
        Fun when is_function(Fun) -> Fun();
        _ -> {ok, Args}
    end.

handle_call({held_until, Ref}, _From, Args) ->
    receive Ref -> {reply, Ref, Args} end;
handle_call(_Request, _From, Args) ->
    {reply, Args, Args}.

handle_cast(_Request, Args) ->
    {noreply, Args}.
