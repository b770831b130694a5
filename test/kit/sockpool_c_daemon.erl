%%% The daemon priv/sockpool_node for the suites: in the cluster of this node, with its cookie. It lives
%%% as long as the process that started it says, and what it logs goes to that process's log.
-module(sockpool_c_daemon).

-export([if_built/1, is_built/0, program/0, start/0, start/1, stop/1, terminate/1, kill/1, suspend/1, resume/1,
         hang_up/1, await_line/2, lines_until/2]).
-export([descriptors/1, memory_kb/1, most_memory_kb/1, is_asleep/1]).

-export_type([daemon/0]).

-type daemon() :: #{node := node(), pid := pid(), os_pid := integer(), said => [string()]}.
%% `said': what it has logged up to its registration.

-define(WAIT_MS, 60000).

%% What the fun returns; for init_per_suite and init_per_group.
-spec if_built(fun(() -> Result)) -> Result | {skip, string()}.
if_built(Fun) ->
    case is_built() of
        true -> Fun();
        false -> {skip, "priv/sockpool_node is not built: a library is missing"}
    end.

-spec is_built() -> boolean().
is_built() -> filelib:is_regular(program()).

%% SOCKPOOL_NODE in the environment is another build of it, as with sanitizers.
-spec program() -> file:filename().
program() ->
    os:getenv("SOCKPOOL_NODE", filename:join(code:priv_dir(sockpool), "sockpool_node")).

-spec start() -> daemon().
start() -> start(#{}).

%% name: of the node, made up by default; given: false where the arguments shall not have it, because it
%% comes from a file; args: more of them; prefix: a program and its arguments that
%% runs it; env: more variables. Returns when the daemon is registered with epmd.
-spec start(map()) -> daemon().
start(Options) ->
    Host = lists:last(string:lexemes(atom_to_list(node()), "@")),
    Default = list_to_atom(peer:random_name(sockpool_c) ++ "@" ++ Host),
    Node = maps:get(name, Options, Default),
    Starter = self(),
    Pid = spawn(fun() -> run(Starter, Node, Options) end),
    receive
        {Pid, OsPid} ->
            Daemon = #{node => Node, pid => Pid, os_pid => OsPid},
            Daemon#{said => lines_until(Daemon, "event=registered")}
    after ?WAIT_MS -> error(no_daemon)
    end.

run(Starter, Node, Options) ->
    Name = [Arg || Arg <- ["--name", atom_to_list(Node)], maps:get(given, Options, true)],
    %% The suites look at its descriptors, whoever runs them.
    Args = Name ++ ["--port", "--core-dumps" | maps:get(args, Options, [])],
    [Program | More] = maps:get(prefix, Options, []) ++ [program()] ++ Args,
    Port = open_port({spawn_executable, Program},
                     [{args, More}, {line, 4096}, stderr_to_stdout, exit_status,
                      {env, [{"SOCKPOOL_COOKIE", atom_to_list(erlang:get_cookie())}]
                            ++ maps:get(env, Options, [])}]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    Starter ! {self(), OsPid},
    loop(Port, [], []).

%% Lines are kept until somebody has asked for one after them.
loop(Port, Lines, Waiting) ->
    receive
        {Port, {data, {_, Line}}} ->
            look(Port, Lines ++ [Line], Waiting);
        {Port, {exit_status, Status}} ->
            look(Port, Lines ++ [lists:concat(["exit_status=", Status])], Waiting);
        {await, From, Part} ->
            look(Port, Lines, Waiting ++ [{From, Part}]);
        {stop, From} ->
            From ! {self(), stopped}
    end.

look(Port, Lines, []) ->
    loop(Port, Lines, []);
look(Port, Lines, [{From, Part} | Rest] = Waiting) ->
    case lists:splitwith(fun(Line) -> string:find(Line, Part) =:= nomatch end, Lines) of
        {Before, [Line | Later]} ->
            From ! {self(), lines, Before ++ [Line]},
            look(Port, Later, Rest);
        {_, []} ->
            loop(Port, Lines, Waiting)
    end.

%% The next line with that in it; the daemon's end is a line exit_status=N.
-spec await_line(daemon(), string()) -> string().
await_line(Daemon, Part) -> lists:last(lines_until(Daemon, Part)).

%% With those before it that nobody has asked for.
-spec lines_until(daemon(), string()) -> [string(), ...].
lines_until(#{pid := Pid}, Part) ->
    Pid ! {await, self(), Part},
    receive {Pid, lines, Lines} -> Lines after ?WAIT_MS -> error({no_line, Part}) end.

%% SIGTERM; its exit status. Nobody has a lease any more, or it is given back now: a daemon that waited in vain
%% for one is an error here, for that takes ten seconds.
-spec stop(daemon()) -> integer().
stop(Daemon) ->
    ok = terminate(Daemon),
    Lines = lines_until(Daemon, "exit_status="),
    [error({not_drained, Lines}) || Line <- Lines, string:find(Line, "event=not_drained") =/= nomatch],
    "exit_status=" ++ Status = lists:last(Lines),
    forget(Daemon),
    list_to_integer(Status).

%% The signal alone.
-spec terminate(daemon()) -> ok.
terminate(Daemon) -> signal(Daemon, "TERM").

%% Without a word to anybody.
-spec kill(daemon()) -> ok.
kill(Daemon) ->
    signal(Daemon, "KILL"),
    _ = await_line(Daemon, "exit_status="),
    forget(Daemon).

forget(#{pid := Pid}) ->
    Pid ! {stop, self()},
    receive {Pid, stopped} -> ok end.

-spec suspend(daemon()) -> ok.
suspend(#{os_pid := OsPid}) -> sockpool_test_util:stop_program(OsPid).

-spec resume(daemon()) -> ok.
resume(#{os_pid := OsPid}) -> sockpool_test_util:continue_program(OsPid).

-spec hang_up(daemon()) -> ok.
hang_up(Daemon) -> signal(Daemon, "HUP").

signal(#{os_pid := OsPid}, Name) ->
    "" = os:cmd(lists:concat(["kill -", Name, " ", OsPid])),
    ok.

%% How many it has open.
-spec descriptors(daemon()) -> non_neg_integer().
descriptors(#{os_pid := OsPid}) ->
    {ok, Names} = file:list_dir(lists:concat(["/proc/", OsPid, "/fd"])),
    length(Names).

%% Whether it waits in the kernel, at this moment.
-spec is_asleep(daemon()) -> boolean().
is_asleep(#{os_pid := OsPid}) ->
    {ok, Stat} = file:read_file(lists:concat(["/proc/", OsPid, "/stat"])),
    re:run(Stat, "\\) S ") =/= nomatch.

-spec memory_kb(daemon()) -> pos_integer().
memory_kb(Daemon) -> status_kb("VmRSS", Daemon).

%% So far.
-spec most_memory_kb(daemon()) -> pos_integer().
most_memory_kb(Daemon) -> status_kb("VmHWM", Daemon).

status_kb(What, #{os_pid := OsPid}) ->
    {ok, Status} = file:read_file(lists:concat(["/proc/", OsPid, "/status"])),
    {match, [Kb]} = re:run(Status, What ++ ":\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb).
