%%% Programs that a test starts: they end with it.
-module(sockpool_test_program).

-export([start/2, start/3, said/2, stop/1, listening/1]).

-define(ELSEWHERE, ":/usr/sbin:/sbin").
-define(PATIENCE_MS, 30000).

-spec start(string(), [string()]) -> map().
start(Name, Args) -> start(Name, Args, #{}).

%% `cd': where it runs. `signal': by which it is ended; `TERM' is the default.
-spec start(string(), [string()], map()) -> map().
start(Name, Args, Options) ->
    Path = os:find_executable(Name, os:getenv("PATH") ++ ?ELSEWHERE),
    Port = open_port({spawn_executable, Path},
                     [{args, Args}, exit_status, stderr_to_stdout, binary | [{cd, Dir} || {cd, Dir} <- maps:to_list(Options)]]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    Signal = maps:get(signal, Options, "TERM"),
    Test = self(),
    Guard = spawn(fun() -> guard(monitor(process, Test), Signal, OsPid) end),
    #{program => Port, os_pid => OsPid, guard => Guard, signal => Signal}.

%% A program does not end by itself where the test fails.
guard(Monitor, Signal, OsPid) ->
    receive
        stopped -> ok;
        {'DOWN', Monitor, process, _, _} -> kill(Signal, OsPid)
    end.

kill(Signal, OsPid) ->
    _ = os:cmd(lists:concat(["kill -", Signal, " ", OsPid])),
    ok.

%% Waits until it has said this, from now on.
-spec said(map(), binary()) -> ok.
said(Program, Part) -> said(Program, Part, <<>>).

said(#{program := Port} = Program, Part, Said) ->
    case binary:match(Said, Part) of
        nomatch ->
            receive
                {Port, {data, Data}} -> said(Program, Part, <<Said/binary, Data/binary>>);
                {Port, {exit_status, Status}} -> error({ended, Status, Said})
            after ?PATIENCE_MS -> error({not_said, Part, Said})
            end;
        _Found ->
            ok
    end.

%% By the process that started it.
-spec stop(map()) -> ok.
stop(#{program := Port, os_pid := OsPid, guard := Guard, signal := Signal}) ->
    ok = kill(Signal, OsPid),
    Guard ! stopped,
    receive {Port, {exit_status, _}} -> forget(Port) end.

%% What it had said before.
forget(Port) ->
    receive {Port, _} -> forget(Port) after 0 -> ok end.

%% Until it does, at its port of 127.0.0.1.
-spec listening(#{port := inet:port_number(), _ => _}) -> map().
listening(#{port := Port} = Server) ->
    ok = sockpool_test_util:wait_until(
           fun() ->
                   case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
                       {ok, Socket} -> ok = gen_tcp:close(Socket), true;
                       {error, _} = Error -> Error
                   end
           end),
    Server.
