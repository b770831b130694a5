%%% @private
%%% Who waits until so many connections of a pool are up, for the pool's process. Each has a time limit, but with
%%% `infinity', and a monitor: who dies is forgotten.
-module(sockpool_ready).

-export([new/0, add/4, met/2, over/3, gone/2, all/2]).
-export_type([waiting/0, count/0]).

-type count() :: non_neg_integer() | size.
-record(wait, {from :: gen_server:from(), count :: count(), timer :: reference() | undefined}).
-opaque waiting() :: #{Monitor :: reference() => #wait{}}.

-spec new() -> waiting().
new() -> #{}.

%% @doc When the time is over `{timeout, Timer, {sockpool_ready, Monitor}}' comes.
-spec add(gen_server:from(), count(), timeout(), waiting()) -> waiting().
add({Pid, _Tag} = From, Count, Timeout, Waiting) ->
    Monitor = monitor(process, Pid),
    Timer = case Timeout of
                infinity -> undefined;
                _ -> erlang:start_timer(Timeout, self(), {sockpool_ready, Monitor})
            end,
    Waiting#{Monitor => #wait{from = From, count = Count, timer = Timer}}.

%% @doc Those for whom there are enough hear that.
-spec met(fun((count()) -> boolean()), waiting()) -> waiting().
met(_IsReady, Waiting) when map_size(Waiting) =:= 0 -> Waiting;
met(IsReady, Waiting) ->
    maps:filter(fun(Monitor, #wait{count = Count} = Wait) ->
                        case IsReady(Count) of
                            true -> answer(Monitor, Wait, ok), false;
                            false -> true
                        end
                end, Waiting).

-spec over(reference(), fun((count()) -> term()), waiting()) -> waiting().
over(Monitor, Answer, Waiting) ->
    case maps:take(Monitor, Waiting) of
        {#wait{count = Count} = Wait, Rest} -> answer(Monitor, Wait, Answer(Count)), Rest;
        error -> Waiting
    end.

-spec gone(reference(), waiting()) -> waiting().
gone(Monitor, Waiting) ->
    case maps:take(Monitor, Waiting) of
        {#wait{timer = Timer}, Rest} -> cancel(Timer), Rest;
        error -> Waiting
    end.

%% @doc Everybody hears the same.
-spec all(term(), waiting()) -> ok.
all(Answer, Waiting) ->
    maps:foreach(fun(Monitor, Wait) -> answer(Monitor, Wait, Answer) end, Waiting).

answer(Monitor, #wait{from = From, timer = Timer}, Answer) ->
    true = demonitor(Monitor, [flush]),
    cancel(Timer),
    gen_server:reply(From, Answer).

cancel(undefined) -> ok;
cancel(Timer) -> _ = erlang:cancel_timer(Timer), ok.
