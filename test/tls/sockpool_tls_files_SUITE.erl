%%% transport => tls where the files or the password are of no use, or come late: what that may do
%%% to the pool, and must not do to the others of the node.
-module(sockpool_tls_files_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, elapsed_ms/1]).
-import(sockpool_tls_peers, [file/2, ssl_server/1]).
-import(sockpool_tls_kit, [pem/2, identity/2, pool/3, pool/4, echo/1, unavailable/1]).

all() -> [{group, side_by_side}].

groups() ->
    [{side_by_side, [parallel],
      [crashes_without_files, crashes_with_a_password_that_blocks, a_reload_ends_it,
       a_first_start_fails, a_start_after_a_stop_fails, a_start_by_another_fails,
       password_that_blocks, password_that_blocks_in_a_reload, reload_of_the_own_node]}].

init_per_suite(Config) ->
    sockpool_tls_kit:start(Config).

end_per_suite(Config) ->
    sockpool_tls_kit:stop(Config).

init_per_testcase(Case, Config) ->
    Ca = file(?config(tls_dir, Config), atom_to_list(Case) ++ ".pem"),
    {ok, _} = file:copy(pem(Config, "ca"), Ca),
    Other = list_to_atom("other_" ++ atom_to_list(Case)),
    [{pool, Case}, {other, Other}, {ca, Ca} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    _ = sockpool:stop_pool(?config(other, Config)),
    ok.

%%% A crash.

controller(Pool) ->
    sockpool_nif:pool_controller(sockpool_pool:find(Pool)).

%% And waits until its supervisor has started it again.
crash(Pool) ->
    Pid = controller(Pool),
    true = is_pid(Pid),
    exit(Pid, kill),
    wait_until(fun() -> Now = controller(Pool), is_pid(Now) andalso Now =/= Pid end).

crashes_without_files(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Pool = pool(Config, Server, #{size => 4}, #{cacertfile => ?config(ca, Config)}),
    Other = pool([{pool, ?config(other, Config)} | Config], Server, #{}),
    Sup = whereis(sockpool_sup),
    echo(Pool),
    echo(Other),
    ok = file:delete(?config(ca, Config)),
    [begin
         crash(Pool),
         ?assertEqual({tls, {cacertfile, enoent}}, unavailable(Pool)),
         ?assertEqual({error, {tls, {cacertfile, enoent}}}, sockpool:reload_tls(Pool)),
         ?assertEqual([], [Pool, Other] -- sockpool_test_util:pools()),
         echo(Other)
     end || _ <- [1, 2, 3, 4]],
    ?assertEqual(1, sockpool_test_util:stat(Other, created)),
    {ok, _} = file:copy(pem(Config, "ca"), ?config(ca, Config)),
    echo(Pool),
    _ = sockpool_test_util:settled(Pool),
    crash(Pool),
    echo(Pool),
    ?assertEqual(Sup, whereis(sockpool_sup)).

%% With a connector that waits for the password when it is stopped: the fun's process ends with it.
crashes_with_a_password_that_blocks(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Self = self(),
    Blocks = atomics:new(1, []),
    Password = fun() ->
                       case atomics:get(Blocks, 1) of
                           0 -> "no need";
                           1 -> Self ! {asked, self()}, receive never -> "" end
                       end
               end,
    Pool = pool(Config, Server, #{connect_timeout => 2000}, #{password => Password}),
    echo(Pool),
    ok = atomics:put(Blocks, 1, 1),
    exit(controller(Pool), kill),
    Ends = fun() ->
                   receive
                       {asked, Pid} ->
                           Monitor = monitor(process, Pid),
                           receive {'DOWN', Monitor, process, Pid, Why} -> Why end
                   end
           end,
    [?assert(lists:member(Ends(), [killed, noproc])) || _ <- [1, 2]],
    ?assertEqual({tls, {password, timeout}}, unavailable(Pool)),
    Last = receive {asked, Pid} -> Pid end,
    Monitor = monitor(process, Last),
    ok = sockpool:stop_pool(Pool),
    receive {'DOWN', Monitor, process, Last, _} -> ok after 1000 -> error(lives) end.

a_reload_ends_it(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Pool = pool(Config, Server, #{backoff => {1, 1}}, #{cacertfile => ?config(ca, Config)}),
    ok = file:delete(?config(ca, Config)),
    crash(Pool),
    {ok, _} = file:copy(pem(Config, "ca"), ?config(ca, Config)),
    ok = sockpool:reload_tls(Pool),
    echo(Pool).

%%% A start that somebody waits for.

no_file(Config, Path) ->
    #{host => "localhost", port => 1, transport => tls, tls => [{cacertfile, Path}],
      name => ?config(pool, Config)}.

a_first_start_fails(Config) ->
    Pool = ?config(pool, Config),
    ?assertEqual({error, {tls, {cacertfile, enoent}}},
                 sockpool:start_pool(Pool, no_file(Config, "/no/such/file"))),
    ?assertNot(lists:member(Pool, sockpool_test_util:pools())).

a_start_after_a_stop_fails(Config) ->
    Pool = ?config(pool, Config),
    Opts = no_file(Config, ?config(ca, Config)),
    ok = sockpool:start_pool(Pool, Opts),
    crash(Pool),
    ok = sockpool:stop_pool(Pool),
    ok = file:delete(?config(ca, Config)),
    [?assertEqual({error, {tls, {cacertfile, enoent}}}, sockpool:start_pool(Pool, Opts))
     || _ <- [1, 2]].

%% It crashed, but what starts it is not its supervisor.
a_start_by_another_fails(Config) ->
    Pool = ?config(pool, Config),
    Opts = no_file(Config, ?config(ca, Config)),
    {Pid, Monitor} = spawn_monitor(fun() ->
                                           {ok, _} = sockpool:start_link(Pool, Opts),
                                           receive never -> ok end
                                   end),
    wait_until(fun() -> lists:member(Pool, sockpool_test_util:pools()) end),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    wait_until(fun() -> not lists:member(Pool, sockpool_test_util:pools()) end),
    ok = file:delete(?config(ca, Config)),
    ?assertEqual({error, {tls, {cacertfile, enoent}}}, sockpool:start_pool(Pool, Opts)).

%%% A password that does not come.

password_that_blocks(Config) ->
    Pool = ?config(pool, Config),
    Opts = no_file(Config, ?config(ca, Config)),
    Self = self(),
    Password = fun() -> Self ! {asked, self()}, receive never -> "" end end,
    Start = fun() ->
                    sockpool:start_pool(Pool, Opts#{connect_timeout => 300,
                                                    tls => [{password, Password}]})
            end,
    {Ms, Result} = elapsed_ms(Start),
    ?assertEqual({error, {tls, {password, timeout}}}, Result),
    ?assert(Ms >= 300),
    ?assertNot(receive {asked, Pid} -> is_process_alive(Pid) end).

password_that_blocks_in_a_reload(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Blocks = atomics:new(1, []),
    Password = fun() ->
                       case atomics:get(Blocks, 1) of
                           0 -> "no need";
                           1 -> receive never -> "" end
                       end
               end,
    Pool = pool(Config, Server, #{connect_timeout => 2000}, #{password => Password}),
    echo(Pool),
    ok = atomics:put(Blocks, 1, 1),
    ?assertEqual({error, {tls, {password, timeout}}}, sockpool:reload_tls(Pool)),
    echo(Pool),
    ok = sockpool_tls_kit:all_closed(Server, Pool),
    echo(Pool).

reload_of_the_own_node(Config) ->
    Server = ssl_server(identity(Config, "server")),
    Pool = pool(Config, Server, #{}),
    ?assertEqual(ok, sockpool:reload_tls({Pool, node()})),
    Elsewhere = {Pool, 'elsewhere@nowhere'},
    {error, Reason} = sockpool:reload_tls(Elsewhere),
    ?assertEqual({bad_argument, local_pool, Elsewhere}, Reason),
    ?assertNotEqual(nomatch, string:find(sockpool:format_error(Reason), "only pools of this node")).
