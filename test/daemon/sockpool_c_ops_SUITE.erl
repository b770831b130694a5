%%% The daemon priv/sockpool_node as an operator has it: how it starts and ends, with which status, what
%%% `--check' finds, its signals, what it tells a service manager, and what it keeps to itself.
%%%
%%% Waits are for its log lines, its exit, or what it sends.
-module(sockpool_c_ops_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("kernel/include/file.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-define(WAIT_MS, 20000).
-define(COOKIE, "c_ops_suite_cookie").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [statuses, no_file_of_tls_yet, check_of_a_running_one, early_hangup, early_ends, silent_epmd, without_port, port_needs_an_input,
     closed_descriptors, stop_timeout, told_to_a_service_manager, abstract_socket, watchdog,
     no_core_dumps, core_dumps, cookie_is_kept_once, both_families, one_family_is_not_there].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(
      fun() ->
              ok = sockpool_cluster:be_a_node(),
              {ok, _} = application:ensure_all_started(sockpool),
              Config
      end).

end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    [{file, filename:join(?config(priv_dir, Config), Case)} | Config].

%%% What it needs. A check finds what a start would, with the same words and status: 1 where another try
%%% may help, 2 where it does not.

statuses(Config) ->
    File = ?config(file, Config),
    Cookie = {"SOCKPOOL_COOKIE", ?COOKIE},
    Open = written(File, "open", ?COOKIE, 8#644),
    Empty = written(File, "empty", "\n", 8#600),
    Broken = written(File, "broken", "{", 8#600),
    Ciphers = written(File, "ciphers", "{\"pools\": {\"p\": {\"transport\": \"tls\", \"host\": \"h\", \"port\": 1,"
                                       " \"tls\": {\"ciphers\": \"no-such-cipher\"}}}}", 8#600),
    Name = ["--name", "a@127.0.0.1"],
    [begin
         Said = {Status, Line} = ended(Args, Env),
         ?assertEqual({Args, Wanted}, {Args, Status}),
         ?assertNotEqual({nomatch, Line}, {string:find(Line, Words), Line}),
         ?assertEqual("sockpool_node: ", lists:sublist(Line, 15)),
         ?assertEqual(Said, ended(["--check" | Args], Env))
     end || {Args, Env, Wanted, Words} <-
                [{[], [Cookie], 2, "--name"},
                 {["--name", "a"], [Cookie], 2, "NAME@HOST"},
                 {Name, [], 2, "SOCKPOOL_COOKIE: is not set"},
                 {Name, [{"SOCKPOOL_COOKIE", ""}], 2, "SOCKPOOL_COOKIE: "},
                 {Name ++ ["--cookie-file", Open], [], 2, "owner only"},
                 {Name ++ ["--cookie-file", Empty], [], 2, "the cookie is empty"},
                 {Name ++ ["--cookie-file", File ++ ".none"], [], 1, "No such file"},
                 {Name ++ ["--cookie-file", Empty, "--cookie-stdin"], [], 2, "not together"},
                 {Name ++ ["--cookie-stdin"], [], 2, "the cookie is empty"},
                 {Name ++ ["--tick-time", "0"], [Cookie], 2, "--tick-time 0"},
                 {Name ++ ["--stop-timeout", "0"], [Cookie], 2, "--stop-timeout 0"},
                 {Name ++ ["--stop-timeout", "4294967296"], [Cookie], 2, "--stop-timeout 4294967296"},
                 {Name, [Cookie, {"ERL_EPMD_PORT", "x"}], 2, "ERL_EPMD_PORT x"},
                 {["--name", "a@no.such.host.invalid"], [Cookie], 1, "--name no.such.host.invalid"},
                 {Name ++ ["--listen", "no.such.host.invalid"], [Cookie], 2, "--listen no.such.host"},
                 {Name ++ ["--listen", "192.0.2.1"], [Cookie], 1, "cannot listen on 192.0.2.1"},
                 {Name ++ ["--config", File ++ ".none"], [Cookie], 1, "No such file"},
                 {Name ++ ["--config", Broken], [Cookie], 2, "line 1, column "},
                 {Name ++ ["--config", Ciphers], [Cookie], 2, "pools.p.tls.ciphers: cannot be used"}]],
    ?assertEqual({0, ""}, ended(["--check" | Name], [Cookie])).

%% A file that a pool needs for TLS is that pool's affair. A check finds it, after what would keep the node from starting.
no_file_of_tls_yet(Config) ->
    File = written(?config(file, Config), "json",
                   "{\"pools\": {\"p\": {\"transport\": \"tls\", \"host\": \"127.0.0.1\", \"port\": 1,"
                   " \"tls\": {\"cacertfile\": \"/nonexistent\"}}}}", 8#600),
    Args = ["--name", Name = name(), "--config", File],
    {1, Line} = ended(["--check" | Args], [cookie()]),
    ?assertNotEqual(nomatch, string:find(Line, "pools.p.tls.cacertfile: cannot be used: enoent")),
    {2, NoCookie} = ended(Args, []),
    ?assertEqual({2, NoCookie}, ended(["--check" | Args], [])),
    Daemon = start(#{args => Args}),
    ?assertMatch({match, _}, re:run(await_line(Daemon, "event=cannot_connect"),
                                    "^level=warning .* pool=p .*reason=\"tls cacertfile enoent\"$")),
    _ = await_line(Daemon, "event=registered"),
    ?assertEqual([p], pools(Name)),
    ?assertEqual(0, terminated(Daemon)).

%% As it is done before each reload.
check_of_a_running_one(Config) ->
    Args = ["--name", Name = name(), "--config", written(?config(file, Config), "json", "{}", 8#600)],
    Daemon = registered(#{args => Args}),
    ?assertEqual({0, ""}, ended(["--check" | Args], [cookie()])),
    ?assertEqual([], pools(Name)),
    ?assertEqual(0, terminated(Daemon)).

%%% Signals.

%% One that comes while it reads its cookie is taken once it serves.
early_hangup(Config) ->
    File = written(?config(file, Config), "json", "{}", 8#600),
    {Daemon, Cookie} = reading_its_cookie(Config, ["--config", File]),
    signal(Daemon, "HUP"),
    ok = give(Cookie),
    _ = await_line(Daemon, "event=configured"),
    _ = await_line(Daemon, "event=configured"),
    ?assertEqual(0, terminated(Daemon)).

%% Nobody is served yet, so it ends as it does later: it was told to.
early_ends(Config) ->
    [begin
         {Daemon, Cookie} = reading_its_cookie(Config, []),
         signal(Daemon, Signal),
         ?assertEqual(0, await_exit(Daemon)),
         true = port_close(Cookie)
     end || Signal <- ["TERM", "INT"]].

%% Its file is a pipe: it has opened that when somebody else has.
reading_its_cookie(Config, Args) ->
    Pipe = ?config(file, Config) ++ ".pipe",
    [] = os:cmd("rm -f " ++ Pipe ++ "; mkfifo -m 600 " ++ Pipe),
    Daemon = start(#{args => ["--name", name(), "--cookie-file", Pipe | Args], env => []}),
    Cookie = open_port({spawn_executable, "/bin/sh"},
                       [{args, ["-c", "exec 3>\"$0\"; echo opened; head -1 >&3", Pipe]}, {line, 100}]),
    receive {Cookie, {data, {eol, "opened"}}} -> ok after ?WAIT_MS -> error(not_opened) end,
    {Daemon, Cookie}.

give(Cookie) ->
    true = port_command(Cookie, atom_to_list(erlang:get_cookie()) ++ "\n"),
    ok.

%%% epmd.

%% One that takes connections and says nothing is given up, and asked again.
silent_epmd(_Config) ->
    {Early, Daemon1} = at_an_epmd(),
    First = answered(Early, Daemon1),
    {Late, Daemon2} = at_an_epmd(),
    {ok, Silent} = gen_tcp:accept(Late, ?WAIT_MS),
    ?assertNotEqual(nomatch, string:find(await_line(Daemon2, "event=not_registered"), "epmd does not answer")),
    Second = answered(Late, Daemon2),
    %% The daemon that had its answer before that does not wait for another one.
    ?assertEqual({error, timeout}, gen_tcp:accept(Early, 1000)),
    [?assertEqual(0, terminated(Daemon)) || Daemon <- [Daemon1, Daemon2]],
    lists:foreach(fun gen_tcp:close/1, [Early, Late, First, Silent, Second]).

at_an_epmd() ->
    {ok, Listener} = gen_tcp:listen(0, [{active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Env = [cookie(), {"ERL_EPMD_PORT", integer_to_list(Port)}],
    {Listener, start(#{args => ["--name", name()], env => Env})}.

answered(Listener, Daemon) ->
    {ok, Socket} = gen_tcp:accept(Listener, ?WAIT_MS),
    {ok, [_, _, 120 | _]} = gen_tcp:recv(Socket, 0, ?WAIT_MS),
    ok = gen_tcp:send(Socket, <<118, 0, 1:32>>),
    _ = await_line(Daemon, "event=registered"),
    Socket.

%%% Its input and output.

%% As under a service manager, to its end with all that it does at its end.
without_port(_Config) ->
    Daemon = registered(#{args => ["--name", Name = name()]}),
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool({p, list_to_atom(Name)}, sockpool_test_server:target(Server)),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, list_to_atom(Name)}, <<"ping">>, 4, 5000)),
    signal(Daemon, "HUP"),
    ?assertEqual([p], pools(Name)),
    ?assertEqual(0, terminated(Daemon)).

port_needs_an_input(Config) ->
    File = written(?config(file, Config), "input", "\n", 8#600),
    [begin
         Daemon = start(#{args => ["--name", name(), "--port"], redirect => Redirect}),
         ?assertNotEqual(nomatch, string:find(await_line(Daemon, "sockpool_node:"), "stdin must be")),
         ?assertEqual(2, await_exit(Daemon))
     end || Redirect <- ["</dev/null", "<&-", "<" ++ File]].

%% Nothing else of it gets their numbers: it would be written to as a log.
closed_descriptors(_Config) ->
    Daemon = #{os_pid := OsPid} =
        start(#{args => ["--core-dumps", "--name", Name = name()], redirect => "<&- >&- 2>&-"}),
    sockpool_test_util:wait_until(fun() -> net_kernel:connect_node(list_to_atom(Name)) end),
    [?assertEqual({ok, "/dev/null"}, file:read_link(lists:concat(["/proc/", OsPid, "/fd/", Fd])))
     || Fd <- [0, 1, 2]],
    ?assertEqual([], pools(Name)),
    ?assertEqual(0, terminated(Daemon)).

%%% Its end.

stop_timeout(_Config) ->
    Daemon = registered(#{args => ["--name", Name = name(), "--stop-timeout", "200"]}),
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool({p, list_to_atom(Name)}, sockpool_test_server:target(Server)),
    {ok, _} = sockpool:checkout({p, list_to_atom(Name)}),
    Began = erlang:monotonic_time(millisecond),
    signal(Daemon, "TERM"),
    _ = await_line(Daemon, "event=not_drained"),
    ?assertEqual(0, await_exit(Daemon)),
    Took = erlang:monotonic_time(millisecond) - Began,
    ?assert(Took >= 200 andalso Took < 8000, Took).

%%% A service manager: sd_notify(3).

told_to_a_service_manager(Config) ->
    %% A short one: a socket's path is.
    Path = "/tmp/sockpool_notify_" ++ os:getpid(),
    {ok, Socket} = gen_udp:open(0, [{ifaddr, {local, Path}}, binary]),
    File = written(?config(file, Config), "json", "{}", 8#600),
    Daemon = registered(#{args => ["--name", name(), "--config", File], env => [{"NOTIFY_SOCKET", Path}]}),
    ?assertEqual(<<"READY=1">>, told(Socket)),
    reloads(Daemon, Socket),
    ok = file:write_file(File, "{"),
    reloads(Daemon, Socket),
    %% Where pools must be stopped first it takes longer, and is over afterwards.
    Pool = fun(Size) -> ["{\"pools\": {\"p\": {\"host\": \"127.0.0.1\", \"port\": 1, \"size\": ", Size, "}}}"] end,
    [begin
         ok = file:write_file(File, Pool(Size)),
         reloads(Daemon, Socket)
     end || Size <- ["1", "2"]],
    signal(Daemon, "TERM"),
    ?assertEqual(<<"STOPPING=1">>, told(Socket)),
    ?assertEqual(0, await_exit(Daemon)),
    ok = gen_udp:close(Socket),
    ok = file:delete(Path).

reloads(Daemon, Socket) ->
    Before = monotonic_usec(),
    signal(Daemon, "HUP"),
    <<"RELOADING=1\nMONOTONIC_USEC=", Usec/binary>> = told(Socket),
    ?assert(binary_to_integer(Usec) >= Before),
    ?assert(binary_to_integer(Usec) =< monotonic_usec()),
    ?assertEqual(<<"READY=1">>, told(Socket)).

%% CLOCK_MONOTONIC, as this VM reads it too.
monotonic_usec() ->
    proplists:get_value(time, erlang:system_info(os_monotonic_time_source)) div 1000.

abstract_socket(_Config) ->
    Name = "sockpool_notify_" ++ os:getpid(),
    {ok, Socket} = gen_udp:open(0, [{ifaddr, {local, [0 | Name]}}, binary]),
    Daemon = registered(#{args => ["--name", name()], env => [{"NOTIFY_SOCKET", "@" ++ Name}]}),
    ?assertEqual(<<"READY=1">>, told(Socket)),
    ?assertEqual(0, terminated(Daemon)),
    ?assertEqual(<<"STOPPING=1">>, told(Socket)),
    ok = gen_udp:close(Socket).

watchdog(_Config) ->
    ?assertMatch([_, _, _, _, _ | _], signs_of_life([{"WATCHDOG_USEC", "100000"}], 5)),
    %% Nobody asks for it, or it is meant for somebody else.
    ?assertEqual([], signs_of_life([], 0)),
    ?assertEqual([], signs_of_life([{"WATCHDOG_USEC", "100000"}, {"WATCHDOG_PID", "1"}], 0)).

%% So many are awaited; all that came.
signs_of_life(Env, Awaited) ->
    Name = lists:concat(["sockpool_watchdog_", os:getpid(), "_", erlang:unique_integer([positive])]),
    {ok, Socket} = gen_udp:open(0, [{ifaddr, {local, [0 | Name]}}, binary]),
    Daemon = registered(#{args => ["--name", name()], env => [{"NOTIFY_SOCKET", "@" ++ Name} | Env]}),
    Signs = [Sign || Sign <- [told(Socket) || _ <- lists:seq(0, Awaited)], Sign =/= <<"READY=1">>],
    ?assertEqual(0, terminated(Daemon)),
    Rest = told_until(Socket, <<"STOPPING=1">>),
    ok = gen_udp:close(Socket),
    ?assertEqual([], [Sign || Sign <- Signs ++ Rest, Sign =/= <<"WATCHDOG=1">>]),
    Signs ++ Rest.

told(Socket) ->
    receive {udp, Socket, _, _, Datagram} -> Datagram after ?WAIT_MS -> error(nothing_told) end.

told_until(Socket, Last) ->
    case told(Socket) of
        Last -> [];
        Datagram -> [Datagram | told_until(Socket, Last)]
    end.

%%% What it keeps to itself.

%% Whoever is the same user cannot look into it either: what /proc has of it is root's.
no_core_dumps(_Config) ->
    Daemon = #{os_pid := OsPid} = registered(#{args => ["--name", name()], prefix => as_nobody()}),
    ?assertMatch({match, _}, re:run(proc(OsPid, "limits"), "Max core file size +0 +0 ")),
    ?assertEqual(0, owner(OsPid)),
    ?assertEqual(0, terminated(Daemon)).

core_dumps(_Config) ->
    Args = ["--core-dumps", "--name", name()],
    Daemon = #{os_pid := OsPid} = registered(#{args => Args, prefix => as_nobody()}),
    {match, [Limit]} = re:run(proc(os:getpid(), "limits"), "Max core file size +\\w+ +\\w+ ",
                              [{capture, first, binary}]),
    ?assertNotEqual(nomatch, binary:match(proc(OsPid, "limits"), Limit)),
    ?assertNotEqual(0, owner(OsPid)),
    ?assertEqual(0, terminated(Daemon)).

%% Wherever it came from: not in its environment, nor twice in its memory, also after it was used.
%% Sanitizers keep a copy of the environment of their own.
cookie_is_kept_once(Config) ->
    IsChecked = os:getenv("SOCKPOOL_NODE") =/= false,
    File = written(?config(file, Config), "cookie", ?COOKIE "\n", 8#600),
    [begin
         Name = name(),
         true = erlang:set_cookie(list_to_atom(Name), list_to_atom(?COOKIE)),
         Daemon = #{os_pid := OsPid} =
             registered(#{args => ["--core-dumps", "--name", Name | Args], env => Env}),
         ?assertEqual([], pools(Name)),
         ?assertEqual(nomatch, binary:match(proc(OsPid, "environ"), <<?COOKIE>>)),
         ?assert(times_in_memory(OsPid, <<?COOKIE>>) =:= 1 orelse IsChecked, Args),
         ?assertEqual(0, terminated(Daemon))
     end || {Args, Env} <- [{[], [{"SOCKPOOL_COOKIE", ?COOKIE}]},
                            {["--cookie-file", File], []},
                            {["--cookie-file", File], [{"SOCKPOOL_COOKIE", ?COOKIE}]}]].

%% In all that it can write to.
times_in_memory(OsPid, Pattern) ->
    Regions = [{list_to_integer(From, 16), list_to_integer(To, 16)}
               || Line <- string:lexemes(binary_to_list(proc(OsPid, "maps")), "\n"),
                  {match, [From, To]} <- [re:run(Line, "^(\\w+)-(\\w+) rw", [{capture, all_but_first, list}])]],
    {ok, Memory} = file:open(lists:concat(["/proc/", OsPid, "/mem"]), [read, raw, binary]),
    Found = [length(binary:matches(Bytes, Pattern))
             || {From, To} <- Regions, To - From < 128 * 1024 * 1024,
                {ok, Bytes} <- [file:pread(Memory, From, To - From)]],
    ok = file:close(Memory),
    lists:sum(Found).

%%% Where it listens.

%% A name of both families: Erlang nodes look for the one or the other.
both_families(Config) ->
    with_hosts(Config, ["127.0.0.1 both.test", "::1 both.test"],
               fun(Prefix) ->
                       Daemon = listening(Prefix, "both@both.test"),
                       {"127.0.0.1", Port} = address(await_line(Daemon, "event=listening")),
                       {"::1", Port} = address(await_line(Daemon, "event=listening")),
                       [begin
                            {ok, Socket} = gen_tcp:connect(Address, list_to_integer(Port), [Family]),
                            ok = gen_tcp:close(Socket)
                        end || {Family, Address} <- [{inet, {127, 0, 0, 1}}, {inet6, {0, 0, 0, 0, 0, 0, 0, 1}}]],
                       ?assertEqual(0, terminated(Daemon))
               end).

one_family_is_not_there(Config) ->
    with_hosts(Config, ["192.0.2.1 half.test", "::1 half.test"],
               fun(Prefix) ->
                       Daemon = listening(Prefix, "half@half.test"),
                       {"::1", _} = address(await_line(Daemon, "event=listening")),
                       ?assertEqual(0, terminated(Daemon))
               end).

listening(Prefix, Name) -> start(#{prefix => Prefix, args => ["--name", Name]}).

address(Line) ->
    {match, [Address, Port]} = re:run(Line, "address=(\\S+) port=(\\d+)", [{capture, all_but_first, list}]),
    {Address, Port}.

%% For the program alone.
with_hosts(Config, Lines, Fun) ->
    File = written(?config(file, Config), "hosts", lists:join("\n", Lines ++ [""]), 8#644),
    Prefix = ["unshare", "-m", "--", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\"", File],
    case {gen_tcp:listen(0, [inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]),
          os:cmd(lists:join(" ", [["'", Word, "'"] || Word <- Prefix ++ ["echo", "well"]]))} of
        {{ok, Socket}, "well\n"} -> ok = gen_tcp:close(Socket), Fun(Prefix);
        {_, Said} -> {skip, "no IPv6, or no mount namespace: " ++ Said}
    end.

%%% The daemon, without --port.

%% args; env: more than the cookie; redirect: of the shell; prefix: a program that runs it.
start(Options) ->
    #{args := Args, env := Env, redirect := Redirect, prefix := Prefix} =
        maps:merge(#{env => [cookie()], redirect => "</dev/null", prefix => []}, Options),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "exec \"$0\" \"$@\" " ++ Redirect
                              | Prefix ++ [sockpool_c_daemon:program() | Args]]},
                      {env, [{"SOCKPOOL_COOKIE", false} | Env]},
                      {line, 4096}, stderr_to_stdout, exit_status]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    #{port => Port, os_pid => OsPid}.

registered(#{env := Env} = Options) ->
    Daemon = start(case lists:keymember("SOCKPOOL_COOKIE", 1, Env) of
                       true -> Options;
                       false -> Options#{env := [cookie() | Env]}
                   end),
    _ = await_line(Daemon, "event=registered"),
    Daemon;
registered(Options) ->
    registered(Options#{env => [cookie()]}).

cookie() -> {"SOCKPOOL_COOKIE", atom_to_list(erlang:get_cookie())}.

name() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    peer:random_name(sockpool_ops) ++ "@" ++ Host.

pools(Name) ->
    {ok, Pools} = sockpool:which_pools(list_to_atom(Name)),
    Pools.

signal(#{os_pid := OsPid}, Name) ->
    [] = os:cmd(lists:concat(["kill -", Name, " ", OsPid])).

terminated(Daemon) ->
    signal(Daemon, "TERM"),
    await_exit(Daemon).

await_line(#{port := Port} = Daemon, Part) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case string:find(Line, Part) of
                nomatch -> await_line(Daemon, Part);
                _ -> Line
            end;
        {Port, {exit_status, Status}} ->
            error({ended, Status, Part})
    after ?WAIT_MS -> error({no_line, Part})
    end.

await_exit(Daemon) ->
    {Status, _} = await_end(Daemon, ""),
    Status.

%% Its status, and its last line.
await_end(#{port := Port} = Daemon, Last) ->
    receive
        {Port, {exit_status, Status}} -> {Status, Last};
        {Port, {data, {_, Line}}} -> await_end(Daemon, Line)
    after ?WAIT_MS -> error(no_exit)
    end.

ended(Args, Env) -> await_end(start(#{args => Args, env => Env}), "").

written(File, Ext, Text, Mode) ->
    Path = File ++ "." ++ Ext,
    ok = file:write_file(Path, Text),
    ok = file:change_mode(Path, Mode),
    Path.

proc(OsPid, What) ->
    {ok, Bytes} = file:read_file(lists:concat(["/proc/", OsPid, "/", What])),
    Bytes.

%% Of what /proc has of it.
owner(OsPid) ->
    {ok, #file_info{uid = Uid}} = file:read_file_info(lists:concat(["/proc/", OsPid, "/environ"]), [raw]),
    Uid.

is_root() -> string:trim(os:cmd("id -u")) =:= "0".

as_nobody() ->
    case is_root() of
        true -> ["setpriv", "--reuid=65534", "--clear-groups"];
        false -> []
    end.
