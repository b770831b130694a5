%%% sockpool_node: the daemon as a child of a supervisor in this VM, and in one that is killed.
-module(sockpool_node_SUITE).
-behaviour(supervisor).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

all() ->
    [starts_and_stops, serves, tls_pool, killed_daemon, killed_without_a_file, killed_under_load, terminated_daemon, killed_vm, killed_parent,
     killed_parent_with_a_lease, stop_timeouts,
     two_children, name_is_taken, cookie_is_not_visible, cookie_of_its_own, cookie_fun_fails,
     wrong_options, wrong_pools, pool_that_cannot_start, wrong_program, program_that_says_nothing,
     does_not_end, logs, no_node, child_specs, reasons_in_words].

suite() -> [{timetrap, {minutes, 2}}].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(
      fun() ->
              ok = sockpool_cluster:be_a_node(),
              {ok, _} = application:ensure_all_started(sockpool),
              Config
      end).

end_per_suite(_Config) -> ok.

init_per_testcase(_Case, Config) ->
    process_flag(trap_exit, true),
    Config.

%%% What it does.

starts_and_stops(_Config) ->
    Options = maps:remove(program, options(#{})),
    {Sup, Pid} = start_child(Options),
    Node = node_of(Options),
    OsPid = os_pid(Pid),
    ?assertEqual([], pools(Node)),
    ?assert(lists:member(Node, nodes(hidden))),
    ?assert(is_running(OsPid)),
    stop(Sup),
    %% At once, and its name is free.
    ?assertNot(is_running(OsPid)),
    ?assertNot(lists:keymember(short(Node), 1, names())),
    {Again, _} = start_child(Options),
    stop(Again).

serves(_Config) ->
    Server = sockpool_test_server:start(),
    Options = options(#{pools => #{one => sockpool_test_server:target(Server),
                                   two => sockpool_test_server:target(Server)}}),
    {Sup, _} = start_child(Options),
    Node = node_of(Options),
    ?assertEqual([one, two], lists:sort(pools(Node))),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({one, Node}, <<"ping">>, 4, 60000)),
    ?assertEqual({ok, <<"pong">>}, sockpool:request({two, Node}, <<"pong">>, 4, 60000)),
    stop(Sup).

tls_pool(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    Certified = sockpool_tls_kit:with_certificates(Config),
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Certified, "server")),
    %% A handshake under valgrind, beside others, takes seconds.
    Pool = #{transport => tls, host => "127.0.0.1", port => sockpool_tls_peers:port(Server), connect_timeout => 60000,
             tls => [{cacertfile, sockpool_tls_kit:pem(Certified, "ca")}]},
    Options = options(#{pools => #{p => Pool}}),
    {Sup, _} = start_child(Options),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, node_of(Options)}, <<"ping">>, 4, 60000)),
    stop(Sup).

%%% Ends.

killed_daemon(_Config) ->
    Server = sockpool_test_server:start(),
    Options = options(#{pools => #{p => sockpool_test_server:target(Server)}}),
    {Sup, Pid} = start_child(Options),
    Node = node_of(Options),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, Node}, <<"ping">>, 4, 60000)),
    Reason = kill(Pid, "KILL"),
    ?assertMatch({exit_status, 137, _}, Reason),
    New = new_child(Sup, Pid),
    ?assertNotEqual(Pid, New),
    ?assertEqual([p], pools(Node)),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, Node}, <<"ping">>, 4, 60000)),
    stop(Sup).

%% A file of TLS that is gone by then is its pool's affair. Who starts it anew is told.
killed_without_a_file(Config) ->
    {ok, _} = application:ensure_all_started(ssl),
    Certified = sockpool_tls_kit:with_certificates(Config),
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Certified, "server")),
    Ca = filename:join(?config(priv_dir, Config), "ca_that_goes.pem"),
    Copy = fun() -> {ok, _} = file:copy(sockpool_tls_kit:pem(Certified, "ca"), Ca) end,
    Tls = #{transport => tls, host => "127.0.0.1", port => sockpool_tls_peers:port(Server),
            backoff => {1, 50}, connect_timeout => 60000, tls => #{cacertfile => Ca}},
    Plain = sockpool_test_server:target(sockpool_test_server:start()),
    Options = options(#{pools => #{a => Plain, p => Tls, z => Plain}}),
    Copy(),
    {Sup, Pid} = start_child(Options),
    Node = node_of(Options),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, Node}, <<"ping">>, 4, 20000)),
    ok = file:delete(Ca),
    _ = kill(Pid, "KILL"),
    Next = new_child(Sup, Pid),
    [?assertEqual({ok, <<"ping">>}, sockpool:request({Pool, Node}, <<"ping">>, 4, 20000)) || Pool <- [a, z]],
    ?assertEqual({tls, {cacertfile, enoent}}, sockpool_test_util:unavailable({p, Node})),
    %% Again, and without a word to the process.
    exit(Next, kill),
    _ = new_child(Sup, Next),
    ?assertEqual({tls, {cacertfile, enoent}}, sockpool_test_util:unavailable({p, Node})),
    Copy(),
    sockpool_test_util:wait_until(
      fun() -> sockpool:request({p, Node}, <<"ping">>, 4, 1000) =:= {ok, <<"ping">>} end),
    ok = file:delete(Ca),
    [{Id, _, worker, _}] = supervisor:which_children(Sup),
    ok = supervisor:terminate_child(Sup, Id),
    ?assertEqual({error, {pool, p, {tls, {cacertfile, enoent}}}}, supervisor:restart_child(Sup, Id)),
    stop(Sup).

%% Whoever calls meanwhile is told so, at once, and is served again.
killed_under_load(_Config) ->
    Server = sockpool_test_server:start(),
    Options = options(#{pools => #{p => sockpool_test_server:target(Server)}}),
    {Sup, First} = start_child(Options),
    Pool = {p, node_of(Options)},
    Counters = counters:new(1, []),
    Clients = [sockpool_test_util:start(fun() -> load(Pool, Counters, #{}) end)
               || _ <- lists:seq(1, 50)],
    _ = lists:foldl(fun(_, Pid) ->
                            served(Counters, 200),
                            _ = kill(Pid, "KILL"),
                            new_child(Sup, Pid)
                    end, First, lists:seq(1, 3)),
    served(Counters, 200),
    [Pid ! stop || {Pid, _, _} <- Clients],
    Results = [sockpool_test_util:await(Client) || Client <- Clients],
    Errors = lists:usort(lists:append([maps:keys(Result) || Result <- Results])),
    ?assertNotEqual([], Errors),
    ?assertEqual([], Errors -- [closed, not_found, {nodedown, node_of(Options)}]),
    stop(Sup).

load(Pool, Counters, Errors) ->
    Result = sockpool:request(Pool, <<"ping">>, 4, 20000),
    Next = case Result of
               {ok, <<"ping">>} -> ok = counters:add(Counters, 1, 1), Errors;
               {error, Reason} -> maps:update_with(Reason, fun(N) -> N + 1 end, 1, Errors)
           end,
    receive stop -> Next after 0 -> load(Pool, Counters, Next) end.

%% So many more requests have been answered.
served(Counters, More) ->
    Before = counters:get(Counters, 1),
    sockpool_test_util:wait_until(
      fun() -> Now = counters:get(Counters, 1) - Before, Now >= More orelse Now end).

%% An orderly end that nobody here asked for.
terminated_daemon(_Config) ->
    Options = options(#{}),
    {Sup, Pid} = start_child(Options),
    ?assertMatch({exit_status, 0, _}, kill(Pid, "TERM")),
    _ = new_child(Sup, Pid),
    ?assertEqual([], pools(node_of(Options))),
    stop(Sup).

killed_vm(_Config) ->
    #{node := PeerNode} = Peer = sockpool_cluster:start_peer(),
    Options = options(#{}),
    {ok, Pid} = erpc:call(PeerNode, ?MODULE, start_and_stay, [Options]),
    OsPid = erpc:call(PeerNode, ?MODULE, os_pid, [Pid]),
    ?assert(is_running(OsPid)),
    ok = sockpool_cluster:kill_vm(Peer),
    sockpool_test_util:wait_until(fun() -> not is_running(OsPid) end).

%% Without a word to the process: its port is closed.
killed_parent(_Config) ->
    {ok, Pid} = sockpool_node:start_link(options(#{})),
    OsPid = os_pid(Pid),
    exit(Pid, kill),
    receive {'EXIT', Pid, killed} -> ok end,
    sockpool_test_util:wait_until(fun() -> not is_running(OsPid) end).

%% It does not wait for those who have leases: the name is wanted.
killed_parent_with_a_lease(_Config) ->
    Server = sockpool_test_server:start(),
    Options = options(#{pools => #{p => sockpool_test_server:target(Server)}}),
    {Sup, Pid} = start_child(Options),
    Node = node_of(Options),
    {ok, Lease} = sockpool:checkout({p, Node}),
    OsPid = os_pid(Pid),
    exit(Pid, kill),
    _ = new_child(Sup, Pid),
    sockpool_test_util:wait_until(fun() -> not is_running(OsPid) end),
    ?assertEqual({error, closed}, sockpool:send(Lease, <<"x">>)),
    ?assertEqual([p], pools(Node)),
    ?assertEqual({ok, <<"ping">>}, sockpool:request({p, Node}, <<"ping">>, 4, 60000)),
    stop(Sup).

%% The daemon knows it, and none is too long for a supervisor.
stop_timeouts(_Config) ->
    Server = sockpool_test_server:start(),
    Options = options(#{stop_timeout => 4294967295,
                        pools => #{p => sockpool_test_server:target(Server)}}),
    {Sup, Pid} = start_child(Options),
    {ok, Arguments} = file:read_file(["/proc/", integer_to_list(os_pid(Pid)), "/cmdline"]),
    ?assertNotEqual(nomatch, binary:match(Arguments, <<"--stop-timeout\0004294967295\0">>)),
    stop(Sup),
    Short = options(#{stop_timeout => 300, pools => #{p => sockpool_test_server:target(Server)}}),
    {Other, _} = start_child(Short),
    {ok, Lease} = sockpool:checkout({p, node_of(Short)}),
    stop(Other),
    ?assertMatch({error, _}, sockpool:checkin(Lease)).

two_children(_Config) ->
    Server = sockpool_test_server:start(),
    Target = sockpool_test_server:target(Server),
    One = options(#{pools => #{p => Target}}),
    Two = options(#{pools => #{p => Target}}),
    {Sup, Pid} = start_child(One),
    {ok, Other} = supervisor:start_child(Sup, sockpool_node:child_spec(Two)),
    [?assertEqual({ok, <<"ping">>}, sockpool:request({p, node_of(O)}, <<"ping">>, 4, 60000))
     || O <- [One, Two]],
    _ = kill(Pid, "KILL"),
    _ = new_child(Sup, Pid),
    ?assert(is_process_alive(Other)),
    ?assertEqual([p], pools(node_of(Two))),
    stop(Sup).

name_is_taken(_Config) ->
    Options = options(#{}),
    {ok, Pid} = sockpool_node:start_link(Options),
    {error, {start_timeout, Line}} = sockpool_node:start_link(Options#{start_timeout => 3000}),
    ?assertNotEqual(nomatch, string:find(Line, "the name is taken")),
    ?assertEqual([], pools(node_of(Options))),
    ok = gen_server:stop(Pid).

%%% The cookie.

cookie_is_not_visible(_Config) ->
    true = os:putenv("RELEASE_COOKIE", "visible_cookie"),
    true = os:putenv("SOCKPOOL_COOKIE", "visible_cookie"),
    {Sup, Pid} = start_child(options(#{cookie => visible_cookie})),
    true = os:unsetenv("RELEASE_COOKIE"),
    true = os:unsetenv("SOCKPOOL_COOKIE"),
    [begin
         {ok, Bytes} = file:read_file(["/proc/", integer_to_list(os_pid(Pid)), "/", What]),
         ?assertNotEqual(<<>>, Bytes),
         ?assertEqual(nomatch, binary:match(Bytes, [<<"visible_cookie">>,
                                                    atom_to_binary(erlang:get_cookie())]))
     end || What <- ["cmdline", "environ"]],
    %% What reports of the process and of its supervisor show.
    [{Id, Pid, worker, _}] = supervisor:which_children(Sup),
    {ok, Spec} = supervisor:get_childspec(Sup, Id),
    [?assertEqual(nomatch, string:find(io_lib:format("~p", [Shown]), "visible_cookie"))
     || Shown <- [sys:get_status(Pid), Spec]],
    stop(Sup).

cookie_of_its_own(_Config) ->
    Options = options(#{cookie => fun() -> of_its_own end}),
    {Sup, _} = start_child(Options),
    ?assertEqual([], pools(node_of(Options))),
    ?assertEqual(of_its_own, erlang:get_cookie(node_of(Options))),
    ?assertNotEqual(of_its_own, erlang:get_cookie()),
    stop(Sup),
    %% By default what was set for that node.
    {Again, _} = start_child(maps:remove(cookie, Options)),
    ?assertEqual([], pools(node_of(Options))),
    stop(Again).

cookie_fun_fails(_Config) ->
    [?assertEqual({error, {cookie, What}},
                  sockpool_node:start_link(options(#{cookie => Fun})))
     || {What, Fun} <- [{error, fun() -> error(secret) end}, {throw, fun() -> throw(secret) end},
                        {exit, fun() -> exit(secret) end}, {bad_value, fun() -> "secret" end},
                        {bad_value, fun() -> '' end}, {bad_value, fun() -> 'a\nb' end},
                        {bad_value, fun() -> list_to_atom([1024]) end}]].

%%% What cannot be started.

wrong_options(_Config) ->
    Wrong = [{name, [undefined, "p@h", 'a@b@c', '@h', 'a@', '']},
             {cookie, [1, "cookie", '', 'a\nb', fun(X) -> X end]},
             {listen, ["127.0.0.1", {1, 2, 3}, localhost]},
             {tick_time, [0, 86401, 60.0, infinity]},
             {pools, [[p], [{p, #{}} | q], p]},
             {program, ["", <<>>, "a\0b", 1, [-1]]},
             {start_timeout, [0, infinity, 4294967296]},
             {stop_timeout, [0, infinity, 4294967296]},
             {size, [10]}],
    [begin
         Shown = case lists:member(Key, [cookie, pools, size]) of true -> not_shown; false -> Value end,
         Bad = {bad_option, Key, Shown},
         ?assertEqual({error, Bad}, sockpool_node:start_link((options(#{}))#{Key => Value})),
         ?assertNotEqual(nomatch, string:find(sockpool_node:format_error(Bad), atom_to_list(Key)))
     end || {Key, Values} <- Wrong, Value <- Values],
    [?assertEqual({error, {bad_option, opts, not_a_map}}, sockpool_node:start_link(Opts))
     || Opts <- [[name], undefined, [{name, p} | x]]].

%% Found before the daemon is started.
wrong_pools(_Config) ->
    Good = #{host => "h", port => 1},
    Init = fun(_) -> ok end,
    Password = fun() -> "" end,
    Tls = fun(Opts) -> Good#{transport => tls, tls => Opts} end,
    Wrong = [{p, port, 0, Good#{port => 0}},
             {p, opts, not_a_map, [port]},
             {p, host, undefined, []},
             {p, host, undefined, #{port => 1}},
             {p, sise, not_shown, Good#{sise => 1}},
             {"p", name, "p", Good},
             {p, init, Init, Good#{init => Init}},
             {p, node, a, #{transport => node, node => a}},
             {p, {tls, verify}, off, Tls(#{verify => off})},
             {p, {tls, password}, Password, Tls(#{password => Password})}],
    [begin
         Bad = {bad_option, {pools, Name, Key}, Value},
         Options = options(#{pools => #{a => Good, Name => Opts}, program => "/nonexistent"}),
         ?assertEqual({error, Bad}, sockpool_node:start_link(Options)),
         Message = sockpool_node:format_error(Bad),
         ?assertEqual("pool ", lists:sublist(Message, 5))
     end || {Name, Key, Value, Opts} <- Wrong].

%% Found by the daemon, which ends again.
pool_that_cannot_start(_Config) ->
    Options = options(#{pools => #{p => #{transport => tls, host => "h", port => 1,
                                          tls => #{certfile => "/nonexistent"}}}}),
    Reason = {pool, p, {tls, {certfile, enoent}}},
    ?assertEqual({error, Reason}, sockpool_node:start_link(Options)),
    ?assertNotEqual(nomatch, string:find(sockpool_node:format_error(Reason), "enoent")),
    ?assertNot(lists:keymember(short(node_of(Options)), 1, names())).

wrong_program(Config) ->
    Start = fun(Program) -> sockpool_node:start_link(options(#{program => Program})) end,
    ?assertEqual({error, {program, "/nonexistent", enoent}}, Start("/nonexistent")),
    NotExecutable = filename:join(?config(priv_dir, Config), "program"),
    ok = file:write_file(NotExecutable, "#!/bin/sh\n"),
    ?assertEqual({error, {program, NotExecutable, eacces}}, Start(NotExecutable)),
    ok = file:write_file(NotExecutable, "#!/bin/sh\nread cookie\necho no node >&2\nexit 7\n"),
    ok = file:change_mode(NotExecutable, 8#700),
    ?assertEqual({error, {exit_status, 7, "no node"}}, Start(list_to_binary(NotExecutable))),
    %% Names of pools are UTF-8 in what it says.
    ok = file:write_file(NotExecutable, <<"#!/bin/sh\nread cookie\necho größe\nexit 7\n"/utf8>>),
    ?assertEqual({error, {exit_status, 7, "größe"}}, Start(NotExecutable)),
    ok = file:write_file(NotExecutable, <<"#!/bin/sh\nread cookie\necho gr", 255, "\nexit 7\n">>),
    ?assertEqual({error, {exit_status, 7, "gr\x{ff}"}}, Start(NotExecutable)).

program_that_says_nothing(Config) ->
    Program = filename:join(?config(priv_dir, Config), "silent"),
    ok = file:write_file(Program, "#!/bin/sh\nread cookie\nread stop\nexit 0\n"),
    ok = file:change_mode(Program, 8#700),
    ?assertEqual({error, {start_timeout, ""}},
                 sockpool_node:start_link(options(#{program => Program, start_timeout => 100}))).

%% Stopped by a signal, it cannot even hear that it is to end.
does_not_end(_Config) ->
    {Sup, Pid} = start_child(options(#{stop_timeout => 100})),
    OsPid = os_pid(Pid),
    ok = sockpool_test_util:stop_program(OsPid),
    stop(Sup),
    ?assertNot(is_running(OsPid)).

%%% The rest.

logs(_Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, info),
    ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => self()}),
    Options = options(#{pools => #{list_to_atom([1087, $\s, 28450]) => #{host => "127.0.0.1", port => 1}}}),
    {Sup, _} = start_child(Options),
    Start = "sockpool_node " ++ atom_to_list(node_of(Options)) ++ ": event=",
    Failed = Start ++ "cannot_connect pool=\"" ++ [1087, $\s, 28450 | "\" "],
    await_logged(warning, fun(Line) -> lists:prefix(Failed, Line) end),
    stop(Sup),
    ok = sockpool_test_log:forget(?MODULE),
    ok = logger:set_primary_config(level, Level),
    Line = Start ++ "registered epmd_port=4369",
    receive {logged, info, Line} -> ok after 0 -> error({not_logged, process_info(self(), messages)}) end.

await_logged(Level, IsIt) ->
    receive
        {logged, Level, Line} -> IsIt(Line) orelse await_logged(Level, IsIt)
    after 20000 -> error({not_logged, process_info(self(), messages)})
    end.

log(#{level := Level} = Event, #{config := Pid}) ->
    case sockpool_test_log:line(Event) of
        {ok, "sockpool_node" ++ _ = Line} -> Pid ! {logged, Level, Line}, ok;
        _ -> ok
    end.

no_node(_Config) ->
    {ok, Peer, _} = peer:start_link(#{connection => standard_io,
                                      args => ["-pa" | [filename:dirname(code:which(sockpool_node))]]}),
    ?assertEqual({error, not_alive}, peer:call(Peer, sockpool_node, start_link, [#{name => p}])),
    peer:stop(Peer).

child_specs(_Config) ->
    Spec = #{id := Id, shutdown := Shutdown} = sockpool_node:child_spec(#{name => p}),
    ?assertEqual({sockpool_node, p}, Id),
    ?assertEqual(ok, supervisor:check_childspecs([Spec])),
    ?assert(Shutdown > 10000),
    ?assertEqual(ok, supervisor:check_childspecs([sockpool_node:child_spec(not_a_map)])).

reasons_in_words(_Config) ->
    [?assertNotEqual(nomatch, string:find(sockpool_node:format_error(Reason), Words))
     || {Reason, Words} <- [{not_alive, "-sname"},
                            {{program, "/p", enoent}, "/p"},
                            {{cookie, bad_value}, "cookie"},
                            {{exit_status, 2, "why"}, "why"},
                            {{port_closed, epipe}, "epipe"},
                            {{start_timeout, "last"}, "last"},
                            {{pool, p, draining}, "draining"}]].

%%% Helpers.

%% Each with a name of its own.
options(More) ->
    Name = "node_suite_" ++ integer_to_list(erlang:unique_integer([positive])),
    maps:merge(#{program => sockpool_c_daemon:program()}, More#{name => list_to_atom(Name)}).

node_of(#{name := Name}) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom(atom_to_list(Name) ++ "@" ++ Host).

pools(Node) ->
    {ok, Pools} = sockpool:which_pools(Node),
    Pools.

short(Node) -> hd(string:split(atom_to_list(Node), "@")).

names() ->
    {ok, Names} = erl_epmd:names(),
    Names.

start_child(Options) ->
    {ok, Sup} = supervisor:start_link(?MODULE, sockpool_node:child_spec(Options)),
    {Sup, child(Sup)}.

init(Spec) -> {ok, {#{intensity => 5, period => 10}, [Spec]}}.

child(Sup) ->
    [{_, Pid, worker, _} | _] = lists:reverse(supervisor:which_children(Sup)),
    Pid.

%% The supervisor answers when it has started it.
new_child(Sup, Old) ->
    Other = fun() -> [P || {_, P, _, _} <- supervisor:which_children(Sup), is_pid(P), P =/= Old] end,
    sockpool_test_util:wait_until(
      fun() -> not lists:member(Old, [P || {_, P, _, _} <- supervisor:which_children(Sup)]) end),
    hd(Other()).

stop(Sup) ->
    unlink(Sup),
    Ref = monitor(process, Sup),
    exit(Sup, shutdown),
    receive {'DOWN', Ref, process, Sup, Reason} -> ?assertEqual(shutdown, Reason) end.

%% In another VM: with nobody there who would end with this call.
start_and_stay(Options) ->
    {ok, Pid} = sockpool_node:start_link(Options),
    unlink(Pid),
    {ok, Pid}.

%% Kills the daemon; why its process has ended.
kill(Pid, Signal) ->
    Ref = monitor(process, Pid),
    [] = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(os_pid(Pid))),
    receive {'DOWN', Ref, process, Pid, Reason} -> Reason end.

os_pid(Pid) ->
    {links, Links} = process_info(Pid, links),
    [Port] = [Link || Link <- Links, is_port(Link)],
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    OsPid.

%% A zombie has ended.
is_running(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/stat") of
        {ok, Stat} -> binary:match(Stat, <<") Z ">>) =:= nomatch;
        {error, _} -> false
    end.
