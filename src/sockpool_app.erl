%%% @private
%%% Starts the application, or says in the log, in words, why not.
-module(sockpool_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    ok = sockpool_log:show(),
    case start() of
        {ok, _} = Ok ->
            Ok;
        {error, Reason} ->
            Sentence = unicode:characters_to_list(sockpool_error:format(Reason)),
            ok = sockpool_log:log(error, #{event => not_started, reason => Reason}),
            ok = sockpool_log:hide(),
            %% It is in the report, too, and in the last words of a VM that does not start without it.
            {error, {Sentence, Reason}}
    end.

start() ->
    case library() of
        ok -> sockpool_sup:start_link();
        {error, _} = Error -> Error
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    sockpool_log:hide().

%% Loaded now, and not when somebody first calls it.
library() ->
    case code:ensure_loaded(sockpool_nif) of
        {module, _} -> ok;
        {error, on_load_failure} -> {error, persistent_term:get(sockpool_nif, on_load_failure)};
        {error, Reason} -> {error, {module, sockpool_nif, Reason}}
    end.
