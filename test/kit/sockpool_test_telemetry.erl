%%% Stands in for Telemetry, which is no dependency: a module of that name, as long as a test has it loaded. What it executes
%%% goes to one handler, which a test gives, in the process that executes.
-module(sockpool_test_telemetry).

-export([load/1, unload/0, executed/3]).

-spec load(fun(([atom()], map(), map()) -> term())) -> ok.
load(Handler) ->
    ok = persistent_term:put(?MODULE, Handler),
    Vars = [{var, 1, Name} || Name <- ['Event', 'Measurements', 'Metadata']],
    Call = {call, 1, {remote, 1, {atom, 1, ?MODULE}, {atom, 1, executed}}, Vars},
    {ok, telemetry, Code} = compile:forms([{attribute, 1, module, telemetry}, {attribute, 1, export, [{execute, 3}]},
                                           {function, 1, execute, 3, [{clause, 1, Vars, [], [Call]}]}]),
    {module, telemetry} = code:load_binary(telemetry, "none", Code),
    ok.

-spec unload() -> ok.
unload() ->
    _ = code:delete(telemetry),
    _ = code:purge(telemetry),
    _ = persistent_term:erase(?MODULE),
    ok.

-spec executed([atom()], map(), map()) -> ok.
executed(Event, Measurements, Metadata) ->
    _ = (persistent_term:get(?MODULE))(Event, Measurements, Metadata),
    ok.
