%%% @private
%%% Options as users give them: a map, or a list of `{Key, Value}' such as a keyword list of Elixir. `nil' is
%%% Elixir's word for what is not given.
-module(sockpool_given).

-export([map/2, shown/3]).

%% @doc The options as a map, of two with the same key the first one. A known one that is `nil' is not in it.
-spec map(term(), Known :: [atom()]) -> {ok, map()} | error.
map(Opts, Known) when is_map(Opts) ->
    {ok, maps:filter(fun(Key, Value) -> Value =/= nil orelse not lists:member(Key, Known) end, Opts)};
map(Opts, Known) when is_list(Opts), length(Opts) >= 0 ->
    case lists:all(fun(Opt) -> is_tuple(Opt) andalso tuple_size(Opt) =:= 2 end, Opts) of
        true -> map(maps:from_list(lists:reverse(Opts)), Known);
        false -> error
    end;
map(_Opts, _Known) ->
    error.

%% @doc For an error or a log: what a key that is not known was given may be a password.
-spec shown(term(), term(), Known :: [atom()]) -> term().
shown(Key, Value, Known) ->
    case lists:member(Key, Known) of true -> Value; false -> not_shown end.
