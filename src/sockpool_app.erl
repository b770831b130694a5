%%% @private
%%% Starts the application, or says in the log, in words, why not.
-module(sockpool_app).
-behaviour(application).

-export([start/2, stop/1, format_error/1]).

-include_lib("kernel/include/logger.hrl").

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case start() of
        {ok, _} = Ok ->
            Ok;
        {error, Reason} = Error ->
            ?LOG_ERROR("sockpool does not start: ~ts", [format_error(Reason)]),
            Error
    end.

start() ->
    case library() of
        ok -> sockpool_sup:start_link();
        {error, _} = Error -> Error
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.

%% Loaded now, and not when somebody first calls it.
library() ->
    case code:ensure_loaded(sockpool_nif) of
        {module, _} -> ok;
        {error, on_load_failure} -> {error, persistent_term:get(sockpool_nif, on_load_failure)};
        {error, Reason} -> {error, {module, sockpool_nif, Reason}}
    end.

-spec format_error(term()) -> iolist().
format_error({library, Path, Text}) ->
    io_lib:format("the library ~ts.so cannot be loaded (~ts); ~ts", [Path, Text, advice(Path)]);
format_error({pool, Name, Reason}) ->
    io_lib:format("pool ~0tp of its environment: ~ts", [Name, sockpool:format_error(Reason)]);
format_error({bad_option, pools, not_a_map}) ->
    "its environment has pools that are no map of names and options, and no list of {Name, Options}";
format_error(Reason) ->
    io_lib:format("~0tp", [Reason]).

advice(Path) ->
    case {filelib:is_regular(Path ++ ".so"), archive(filename:split(Path))} of
        {true, _} -> "was it built for this system and this version of OTP?";
        {false, none} -> "it is made when sockpool is compiled with rebar3 or make";
        {false, Archive} -> ["nothing can be loaded from within ", Archive, ", an archive such as an escript: "
                             "keep sockpool beside it, as a directory in ERL_LIBS"]
    end.

archive([First | Parts]) -> archive(First, Parts).

archive(_Path, []) ->
    none;
archive(Path, [Part | Parts]) ->
    case filelib:is_regular(Path) of
        true -> Path;
        false -> archive(filename:join(Path, Part), Parts)
    end.
