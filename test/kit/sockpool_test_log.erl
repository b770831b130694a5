%%% Handlers of logger in tests.
%%%
%%% One at a time is added or removed: logger writes the list of its handlers without another that was added
%%% while one is being removed (OTP 25 to 27, logger_server: the new list is made before the handler is told).
-module(sockpool_test_log).

-export([hear/1, hear/3, forget/1, next_line/0, line/1, log/2]).

%% Has the lines about that pool sent to the caller, as `{log, Line}', until it is forgotten by its name.
-spec hear(Pool :: atom()) -> ok.
hear(Pool) -> hear(Pool, ?MODULE, #{config => {self(), Pool}}).

%% As logger:add_handler/3.
-spec hear(logger:handler_id(), module(), logger:handler_config()) -> ok.
hear(Id, Module, Config) -> alone(fun() -> ok = logger:add_handler(Id, Module, Config) end).

%% What was never added is forgotten, too.
-spec forget(logger:handler_id()) -> ok.
forget(Id) ->
    case alone(fun() -> logger:remove_handler(Id) end) of
        ok -> ok;
        {error, {not_found, Id}} -> ok
    end.

-spec next_line() -> string().
next_line() -> receive {log, Line} -> Line after 60000 -> error(nothing_logged) end.

%% As a handler of logger.
-spec log(logger:log_event(), logger:handler_config()) -> term().
log(Event, #{config := {Pid, Pool}}) ->
    case line(Event) of
        {ok, Line} -> lists:prefix(lists:concat(["sockpool ", Pool, ":"]), Line) andalso (Pid ! {log, Line});
        none -> ok
    end.

%% Of sockpool, as a handler writes it.
-spec line(logger:log_event()) -> {ok, string()} | none.
line(#{msg := {report, Report}, meta := #{domain := [sockpool | _], report_cb := Callback}}) ->
    {Format, Arguments} = Callback(Report),
    {ok, lists:flatten(io_lib:format(Format, Arguments))};
line(_Event) ->
    none.

alone(Fun) -> global:trans({?MODULE, self()}, Fun, [node()]).
