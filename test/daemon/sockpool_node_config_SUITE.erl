%%% The daemon's options and its configuration file: the same answers as sockpool_opts gives, pools out of
%%% the file, and SIGHUP.
-module(sockpool_node_config_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(sockpool_c_daemon, [await_line/2, hang_up/1]).

-compile(export_all).
-compile(nowarn_export_all).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [same_errors, same_errors_of_paths, same_errors_of_tls, options_in_any_order,
     pools_of_the_file, new_and_gone_pools, changed_pool, stopped_by_call, twice, broken_file,
     {group, tls}, needs_restart, ends_while_it_restarts_a_pool, names_in_the_log,
     pool_that_was_started_by_call, all_of_the_file, command_line_comes_first].

%% One of them waits for five seconds, until an outage is over.
groups() ->
    [{tls, [parallel], [files_of_tls, broken_files_of_tls, without_a_file, no_file_of_tls_at_the_start]}].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(
      fun() ->
              ok = sockpool_cluster:be_a_node(),
              {ok, _} = application:ensure_all_started(ssl),
              {ok, _} = application:ensure_all_started(sockpool),
              Config
      end).

end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    File = filename:join(?config(priv_dir, Config), atom_to_list(Case) ++ ".json"),
    [{file, File} | Config].

%%% Options by call. Whatever serves, the caller sees the same.

same_errors(_Config) ->
    Daemon = sockpool_c_daemon:start(),
    Base = #{host => "127.0.0.1", port => 1},
    Rows = sockpool_opts_tests:table(),
    %% An empty list of options is sent as a map.
    [same_error(Daemon, Base#{Key => Value}) || {Key, _, Wrong, _} <- Rows, Value <- Wrong, {Key, Value} =/= {tls, []}],
    [accepted(Daemon, Base#{Key => Value})
     || {Key, Right, _, _} <- Rows, not lists:member(Key, [name, init, start]), {Value, _} <- Right, is_known_there(Key, Value)],
    %% Who calls waits itself.
    ?assertEqual({error, {bad_option, start, {await, 1, 0}}}, start_pool(Daemon, Base#{start => {await, 1, 0}})),
    Init = fun(_) -> ok end,
    ?assertEqual({error, {bad_option, init, Init}}, start_pool(Daemon, Base#{init => Init})),
    Frame = fun(Bytes) -> {done, byte_size(Bytes)} end,
    ?assertEqual({error, {bad_option, packet, Frame}}, start_pool(Daemon, Base#{packet => Frame})),
    Cookie = fun erlang:get_cookie/0,
    ?assertEqual({error, {bad_option, cookie, not_a_cookie}},
                 start_pool(Daemon, #{transport => node, node => 'a@b', cookie => Cookie})),
    [same_error(Daemon, Opts)
     || {Host, _} <- sockpool_opts_tests:hosts_with_users(),
        Opts <- [Base#{host => Host}, #{transport => unix, path => "/s", host => Host}]],
    [same_error(Daemon, Opts)
     || Opts <- [#{transport => node, node => 'a@b', packet => Packet}
                 || Packet <- [line, 2, resp, {length, #{}}, {length, [{header, strip}, {bytes, 2}]}, {fixed, 4}]]],
    ok = accepted(Daemon, #{transport => node, node => 'a@127.0.0.1', packet => {length, #{header => strip}}}),
    [same_error(Daemon, Opts)
     || Opts <- [undefined, 1, #{port => 80}, #{host => "h"}, #{transport => unix},
                 #{transport => tls, port => 80}, Base#{path => "/tmp/s"}, Base#{tls => #{}},
                 Base#{sise => 1}, Base#{"size" => 1}, Base#{size => 0, max_overflow => 0},
                 Base#{size => 999991}, Base#{max_overflow => 999991}, Base#{cookie => secret},
                 Base#{node => 'a@b'}, Base#{max_inflight => 5},
                 #{transport => unix, path => "/s", host => "h"},
                 #{transport => unix, path => "/s", bind => {127, 0, 0, 1}}]],
    0 = sockpool_c_daemon:stop(Daemon).

same_errors_of_paths(_Config) ->
    Daemon = sockpool_c_daemon:start(),
    [same_error(Daemon, #{transport => unix, path => Path})
     || Path <- sockpool_opts_tests:wrong_paths()],
    [accepted(Daemon, #{transport => unix, path => Path})
     || {Path, _} <- sockpool_opts_tests:paths()],
    0 = sockpool_c_daemon:stop(Daemon).

same_errors_of_tls(_Config) ->
    Daemon = sockpool_c_daemon:start(),
    Base = #{transport => tls, host => "127.0.0.1", port => 1},
    Rows = sockpool_tls_tests:table(),
    Fun = fun() -> "secret" end,
    [same_error(Daemon, Base#{tls => Tls})
     || {Key, _, Wrong, _} <- Rows, Value <- Wrong, Tls <- [#{Key => Value}, [{Key, Value}]]],
    %% The system's authorities are read once: under valgrind that takes half a second.
    [accepted(Daemon, Base#{tls => maps:merge(#{verify => none}, #{Key => Value})})
     || {Key, Right, _, _} <- Rows, {Value, _} <- Right, not is_function(Value)],
    [same_error(Daemon, Base#{tls => Tls})
     || Tls <- [1, "x", [a], [{verify, none} | x], [{password, "secret"}, verify], {password, "secret"},
                #{password => "secret"}, #{keyfile => "k"},
                #{cacerts => [<<1>>], cacertfile => "c"}, #{verifi => peer}]],
    ?assertEqual({error, {bad_option, {tls, password}, Fun}},
                 start_pool(Daemon, Base#{tls => #{password => Fun}})),
    0 = sockpool_c_daemon:stop(Daemon).

%% It runs no functions.
is_known_there(health, Check) when is_list(Check) -> lists:keymember(send, 1, Check);
is_known_there(health, Check) -> Check =:= undefined orelse (is_map(Check) andalso is_map_key(send, Check));
is_known_there(_Key, _Value) -> true.

same_error(#{node := Node} = Daemon, Opts) ->
    {error, {bad_option, _, _}} = Error = sockpool_opts:parse(cache, Opts),
    ?assertEqual({Opts, Error}, {Opts, start_pool(Daemon, Opts)}),
    ?assertEqual({ok, []}, sockpool:which_pools(Node)).

start_pool(#{node := Node}, Opts) ->
    gen_server:call({sockpool, Node}, {start_pool, cache, Opts}, 60000).

%% Files that do not exist are another thing.
accepted(#{node := Node} = Daemon, Opts) ->
    case start_pool(Daemon, Opts) of
        ok -> ok = sockpool:stop_pool({cache, Node});
        {error, {tls, _}} -> ok;
        Other -> error({Opts, Other})
    end.

%% More than 32 keys: a map is told in the order of its hashes.
options_in_any_order(_Config) ->
    Daemon = sockpool_c_daemon:start(),
    {ok, All} = sockpool_opts:parse(cache, #{host => "127.0.0.1", port => 1}),
    ok = accepted(Daemon, All),
    Unknown = maps:from_list([{{unknown, N}, N} || N <- lists:seq(1, 100)]),
    {error, {bad_option, {unknown, _}, not_shown}} = start_pool(Daemon, maps:merge(All, Unknown)),
    0 = sockpool_c_daemon:stop(Daemon).

%%% Pools out of the file.

pools_of_the_file(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{one => tcp(Server), two => (tcp(Server))#{size => 3, packet => <<"line">>},
                    three => (tcp(Server))#{packet => #{length => #{adjust => -4, header => <<"strip">>}}},
                    four => (tcp(Server))#{packet => #{delimiter => <<"\\r\\n">>}}, five => (tcp(Server))#{packet => #{fixed => 5}},
                    six => (tcp(Server))#{packet => <<"resp">>}}),
    #{node := Node} = Daemon = start(Config),
    ?assertEqual([five, four, one, six, three, two], pools(Node)),
    echo(one, Node),
    [begin
         ?assertEqual({ok, Message}, sockpool:request({Name, Node}, Message, packet, 5000)),
         {ok, Conn} = sockpool:checkout({Name, Node}),
         ?assertMatch({ok, #{packet := Packet}}, sockpool:info(Conn)),
         ok = sockpool:checkin(Conn)
     end || {Name, Packet, Message} <-
                [{three, {length, #{offset => 0, bytes => 4, endian => big, adjust => -4, header => strip}}, <<"abc">>},
                 {four, {delimiter, <<"\r\n">>}, <<"a\nb\r\n">>}, {five, {fixed, 5}, <<"hello">>},
                 {six, resp, <<"*2\r\n+a\r\n_\r\n">>}]],
    ?assertMatch({ok, #{size := 3}}, sockpool:stats({two, Node})),
    ?assertEqual({ok, <<"a line\n">>}, sockpool:request({two, Node}, "a line\n", packet, 5000)),
    0 = sockpool_c_daemon:stop(Daemon).

new_and_gone_pools(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{stays => tcp(Server), goes => tcp(Server)}),
    #{node := Node} = Daemon = start(Config),
    {ok, Kept} = sockpool:checkout({stays, Node}),
    {ok, Lost} = sockpool:checkout({goes, Node}),
    write(Config, #{stays => tcp(Server), comes => tcp(Server)}),
    reload(Daemon),
    ?assertEqual([comes, stays], pools(Node)),
    echo(comes, Node),
    ok = sockpool:send(Kept, <<"x">>),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Kept, 1)),
    ?assertEqual({error, closed}, sockpool:send(Lost, <<"x">>)),
    ?assertEqual({error, not_found}, sockpool:checkout({goes, Node})),
    ok = sockpool:checkin(Kept),
    0 = sockpool_c_daemon:stop(Daemon).

changed_pool(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{p => tcp(Server), q => tcp(Server)}),
    #{node := Node} = Daemon = start(Config),
    {ok, Lost} = sockpool:checkout({p, Node}),
    echo(q, Node),
    write(Config, #{p => (tcp(Server))#{size => 4}, q => tcp(Server)}),
    reload(Daemon),
    ?assertMatch({ok, #{size := 4, checkouts := 0}}, sockpool:stats({p, Node})),
    ?assertMatch({ok, #{checkouts := 1}}, sockpool:stats({q, Node})),
    ?assertEqual({error, closed}, sockpool:send(Lost, <<"x">>)),
    echo(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

%% What the file says is there again; what it does not know stays.
stopped_by_call(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{p => tcp(Server)}),
    #{node := Node} = Daemon = start(Config),
    ok = sockpool:stop_pool({p, Node}),
    ok = sockpool:start_pool({other, Node}, sockpool_test_server:target(Server)),
    reload(Daemon),
    ?assertEqual([other, p], pools(Node)),
    echo(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

%% The second comes while a large pool is being stopped: the last file counts.
twice(Config) ->
    Server = sockpool_test_server:start(),
    Pool = (tcp(Server))#{size => 3000},
    write(Config, #{p => Pool}),
    #{node := Node, os_pid := OsPid} = Daemon = start(Config),
    sockpool_test_util:wait_until(
      fun() -> {ok, #{idle := Idle}} = sockpool:stats({p, Node}), Idle =:= 3000 orelse Idle end),
    write(Config, #{p => Pool#{size => 1}}),
    Later = ?config(file, Config) ++ ".later",
    ok = file:write_file(Later, json(#{pools => #{p => Pool#{size => 2}}})),
    "" = os:cmd(lists:flatten(io_lib:format("kill -HUP ~b; mv ~s ~s; kill -HUP ~b",
                                            [OsPid, Later, ?config(file, Config), OsPid]))),
    sockpool_test_util:wait_until(
      fun() ->
              case sockpool:stats({p, Node}) of
                  {ok, #{size := 2}} -> true;
                  Other -> Other
              end
      end),
    0 = sockpool_c_daemon:stop(Daemon).

broken_file(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{p => tcp(Server)}),
    #{node := Node} = Daemon = start(Config),
    {ok, Kept} = sockpool:checkout({p, Node}),
    [begin
         ok = file:write_file(?config(file, Config), Text),
         hang_up(Daemon),
         Line = await_line(Daemon, "event=not_configured"),
         ?assertMatch("level=error " ++ _, Line),
         ?assertNotEqual({nomatch, Line}, {string:find(Line, Words), Line}),
         ?assertEqual(2, length([$" || $" <- Line])),
         ?assertEqual([p], pools(Node))
     end || {Text, Words} <- [{"{", "line 1, column "},
                              {"{\"pools\": {\"q\": {\"port\": \"x\"}}}", "pools.q.port: 'x' is not allowed"},
                              {"{\"pools\": {\"q\": {\"port\": 1, \"host\": \"http://me:pw@h\"}}}",
                               "pools.q.host: 'http://not_shown@h' is not allowed"},
                              {"{\"nam\": 1}", "nam: does not exist"}]],
    ok = file:delete(?config(file, Config)),
    hang_up(Daemon),
    _ = await_line(Daemon, "No such file"),
    ok = sockpool:send(Kept, <<"x">>),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Kept, 1)),
    ok = sockpool:checkin(Kept),
    0 = sockpool_c_daemon:stop(Daemon).

%% The authority's file has another content: only who reads it again trusts the server.
files_of_tls(Config) ->
    {_Server, Pool} = tls(Config, "other_ca.pem"),
    write(Config, #{p => Pool}),
    #{node := Node} = Daemon = start(Config),
    ?assertMatch({tls, _}, sockpool_test_util:unavailable({p, Node})),
    use(Config, "ca.pem"),
    reload(Daemon),
    served(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

broken_files_of_tls(Config) ->
    {_Server, Pool} = tls(Config, "ca.pem"),
    write(Config, #{p => Pool}),
    #{node := Node} = Daemon = start(Config),
    echo(p, Node),
    ok = file:delete(trusted(Config)),
    write(Config, #{p => Pool, q => Pool#{size => 1}}),
    hang_up(Daemon),
    Line = await_line(Daemon, "event=not_configured"),
    ?assertNotEqual(nomatch, string:find(Line, ".tls.cacertfile: cannot be used: enoent")),
    ?assertEqual([p], pools(Node)),
    echo(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

needs_restart(Config) ->
    write(Config, #{}),
    Daemon = start(Config),
    File = ?config(file, Config),
    [begin
         ok = file:write_file(File, ["{\"", Key, "\": ", Value, "}"]),
         hang_up(Daemon),
         ?assertNotEqual(nomatch, string:find(await_line(Daemon, "event=needs_restart"), "key=" ++ Key))
     end || {Key, Value} <- [{"tick_time", "5"}, {"listen", "\"::1\""}, {"cookie_file", "\"/c\""},
                             {"name", "\"other@host\""}]],
    0 = sockpool_c_daemon:stop(Daemon).

%% While it reads the file, while it stops the pool, and when the next one is there. Nothing begins after that.
ends_while_it_restarts_a_pool(Config) ->
    Server = sockpool_test_server:start(),
    ReadsIt = fun(Daemon) ->
                      ok = sockpool_c_daemon:suspend(Daemon),
                      hang_up(Daemon),
                      ok = sockpool_c_daemon:terminate(Daemon),
                      ok = sockpool_c_daemon:resume(Daemon),
                      []
              end,
    Has = fun(Event) ->
                  fun(Daemon) ->
                          hang_up(Daemon),
                          Lines = sockpool_c_daemon:lines_until(Daemon, Event),
                          ok = sockpool_c_daemon:terminate(Daemon),
                          Lines
                  end
          end,
    [?assertEqual([], restarted(Config, Server, 1, ReadsIt)) || _ <- [1, 2]],
    %% Many connections, so that it takes until the signal comes.
    ok = sockpool_test_util:wait_until(fun() -> restarted(Config, Server, 1000, Has("event=pool_stopped")) =:= [] end),
    [?assertMatch([_], restarted(Config, Server, 1, Has("event=configured"))) || _ <- [1, 2]].

%% That it has started another pool, by the time it is told to end by Then.
restarted(Config, Server, Size, Then) ->
    Pool = tcp(Server),
    write(Config, #{p => Pool#{size => Size}}),
    #{node := Node} = Daemon = start(Config),
    {ok, Lease} = sockpool:checkout({p, Node}),
    sockpool_test_util:wait_until(
      fun() -> {ok, #{connecting := Connecting}} = sockpool:stats({p, Node}), Connecting =:= 0 orelse Connecting end),
    write(Config, #{p => Pool#{size => 4}}),
    Lines = Then(Daemon) ++ sockpool_c_daemon:lines_until(Daemon, "event=ending"),
    %% Its pool may be gone.
    _ = sockpool:checkin(Lease),
    After = sockpool_c_daemon:lines_until(Daemon, "exit_status="),
    ?assertEqual("exit_status=0", lists:last(After)),
    ?assertEqual([], with(["event=pool_", "event=configured", "event=not_"], After)),
    with(["event=pool_started"], Lines).

with(Words, Lines) -> [Line || Line <- Lines, Word <- Words, string:find(Line, Word) =/= nomatch].

%% None can look like another event or level.
names_in_the_log(Config) ->
    write(Config, #{}),
    Daemon = start(Config),
    ok = file:write_file(?config(file, Config),
                         ["{\"pools\": {\"x level=error\\n\\\"level=warning event=y\":"
                          " {\"host\": \"127.0.0.1\", \"port\": 1}}}"]),
    hang_up(Daemon),
    Name = "pool=\"x level=error\\x0a\\\"level=warning event=y\"",
    ?assertEqual("level=info event=pool_started " ++ Name, await_line(Daemon, "pool")),
    Failed = "level=warning event=cannot_connect " ++ Name ++ " ",
    ?assertEqual(Failed, lists:sublist(await_line(Daemon, "cannot_connect"), length(Failed))),
    0 = sockpool_c_daemon:stop(Daemon).

without_a_file(Config) ->
    {_Server, Pool} = tls(Config, "other_ca.pem"),
    #{node := Node} = Daemon = sockpool_c_daemon:start(),
    #{host := Host, port := Port, tls := #{cacertfile := File}} = Pool,
    ok = sockpool:start_pool({p, Node}, #{transport => tls, host => Host, port => Port,
                                          backoff => {1, 50}, connect_timeout => 60000,
                                          tls => #{cacertfile => File}}),
    ?assertMatch({tls, _}, sockpool_test_util:unavailable({p, Node})),
    ok = file:write_file(trusted(Config), "no certificate"),
    hang_up(Daemon),
    Line = await_line(Daemon, "event=tls_not_reloaded"),
    ?assertNotEqual(nomatch, string:find(Line, "pool=p ")),
    use(Config, "ca.pem"),
    hang_up(Daemon),
    served(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

%% A pool whose file of TLS is not there yet says so, and works once it is; the others work at once.
no_file_of_tls_at_the_start(Config) ->
    {_Server, Pool} = tls(Config, "ca.pem"),
    Other = sockpool_test_server:start(),
    write(Config, #{p => Pool, q => tcp(Other)}),
    ok = file:delete(trusted(Config)),
    #{node := Node} = Daemon = start(Config),
    echo(q, Node),
    ?assertEqual({tls, {cacertfile, enoent}}, sockpool_test_util:unavailable({p, Node})),
    %% With another cause it is told that one.
    ok = file:write_file(trusted(Config), "no certificate"),
    sockpool_test_util:wait_until(
      fun() ->
              case sockpool:checkout({p, Node}, 1000) of
                  {error, {unavailable, {tls, {cacertfile, enoent}}}} -> false;
                  {error, {unavailable, {tls, {cacertfile, _}}}} -> true
              end
      end),
    use(Config, "ca.pem"),
    _ = await_line(Daemon, "event=connected_again pool=p"),
    echo(p, Node),
    %% That is that; from now on it is as with any other pool.
    ok = file:delete(trusted(Config)),
    hang_up(Daemon),
    _ = await_line(Daemon, "event=not_configured"),
    echo(p, Node),
    0 = sockpool_c_daemon:stop(Daemon).

%% One of that name that somebody started by call is not the file's.
pool_that_was_started_by_call(Config) ->
    Server = sockpool_test_server:start(),
    write(Config, #{}),
    #{node := Node} = Daemon = start(Config),
    [ok = sockpool:start_pool({Name, Node}, (sockpool_test_server:target(Server))#{size => 7})
     || Name <- [p, q]],
    {ok, Kept} = sockpool:checkout({q, Node}),
    write(Config, #{p => (tcp(Server))#{size => 3}}),
    reload(Daemon),
    ?assertMatch({ok, #{size := 3}}, sockpool:stats({p, Node})),
    ?assertMatch({ok, #{size := 7}}, sockpool:stats({q, Node})),
    ok = sockpool:checkin(Kept),
    %% And the other way round.
    ok = sockpool:stop_pool({p, Node}),
    ok = sockpool:start_pool({p, Node}, (sockpool_test_server:target(Server))#{size => 7}),
    reload(Daemon),
    ?assertMatch({ok, #{size := 3}}, sockpool:stats({p, Node})),
    %% What is not in the file any more, and was started by call, stays.
    ok = sockpool:stop_pool({p, Node}),
    ok = sockpool:start_pool({p, Node}, (sockpool_test_server:target(Server))#{size => 7}),
    write(Config, #{}),
    reload(Daemon),
    ?assertMatch({ok, #{size := 7}}, sockpool:stats({p, Node})),
    0 = sockpool_c_daemon:stop(Daemon).

%% Its name holds longer than the file from which it came.
all_of_the_file(Config) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Name = "all_of_the_file@" ++ Host,
    Cookie = filename:join(?config(priv_dir, Config), "cookie_of_file"),
    ok = file:write_file(Cookie, atom_to_list(erlang:get_cookie())),
    ok = file:change_mode(Cookie, 8#600),
    Text = ["{\"name\": \"", Name, "\", \"cookie_file\": \"", Cookie, "\", \"tick_time\": 60"],
    ok = file:write_file(?config(file, Config), [Text, "}"]),
    #{node := Node} = Daemon =
        sockpool_c_daemon:start(#{name => list_to_atom(Name), given => false,
                                  args => ["--config", ?config(file, Config)],
                                  env => [{"SOCKPOOL_COOKIE", "not_this"}]}),
    ?assertEqual([], pools(Node)),
    ok = file:write_file(?config(file, Config), [Text, ", \"pools\": {}}"]),
    reload(Daemon),
    true = erlang:disconnect_node(Node),
    ?assertEqual([], pools(Node)),
    0 = sockpool_c_daemon:stop(Daemon).

%% The suite's other daemons get their name from there. Here the file has a cookie, too.
command_line_comes_first(Config) ->
    Cookie = filename:join(?config(priv_dir, Config), "cookie"),
    ok = file:write_file(Cookie, atom_to_list(erlang:get_cookie())),
    ok = file:change_mode(Cookie, 8#600),
    ok = file:write_file(?config(file, Config),
                         ["{\"name\": \"not_this@localhost\", \"tick_time\": 1, \"cookie_file\": \"",
                          Cookie, "\"}"]),
    #{node := Node} = Daemon =
        sockpool_c_daemon:start(#{args => ["--config", ?config(file, Config), "--tick-time", "60"],
                                  env => [{"SOCKPOOL_COOKIE", "not_this"}]}),
    ?assertEqual([], pools(Node)),
    0 = sockpool_c_daemon:stop(Daemon).

%%% Helpers.

start(Config) ->
    sockpool_c_daemon:start(#{args => ["--config", ?config(file, Config)]}).

reload(Daemon) ->
    hang_up(Daemon),
    %% The first one is of the start.
    _ = await_line(Daemon, "event=configured"),
    ok.

pools(Node) ->
    {ok, Pools} = sockpool:which_pools(Node),
    lists:sort(Pools).

echo(Pool, Node) ->
    ?assertEqual({ok, <<"ping">>}, sockpool:request({Pool, Node}, <<"ping">>, 4, 30000)).

%% As soon as it has a connection.
served(Pool, Node) ->
    sockpool_test_util:wait_until(
      fun() -> sockpool:request({Pool, Node}, <<"ping">>, 4, 1000) =:= {ok, <<"ping">>} end).

tcp(Server) ->
    #{host := {A, B, C, D}, port := Port} = sockpool_test_server:target(Server),
    #{host => iolist_to_binary(io_lib:format("~b.~b.~b.~b", [A, B, C, D])), port => Port, size => 1}.

%% A server, and a pool that trusts the authorities of the file trusted(Config).
tls(Config, Trusted) ->
    Dir = filename:join(?config(priv_dir, Config), filename:basename(?config(file, Config), ".json")),
    ok = file:make_dir(Dir),
    ok = sockpool_tls_peers:certificates(Dir),
    use(Config, Trusted),
    File = fun(Name) -> sockpool_tls_peers:file(Dir, Name) end,
    Server = sockpool_tls_peers:ssl_server([{certfile, File("server.pem")},
                                            {keyfile, File("server.key")}]),
    {Server, #{transport => <<"tls">>, host => <<"127.0.0.1">>, backoff => [1, 50], connect_timeout => 60000,
               port => sockpool_tls_peers:port(Server),
               tls => #{cacertfile => list_to_binary(trusted(Config))}}}.

trusted(Config) ->
    filename:join(filename:rootname(?config(file, Config)), "trusted.pem").

use(Config, Name) ->
    Dir = filename:rootname(?config(file, Config)),
    {ok, _} = file:copy(filename:join(Dir, Name), trusted(Config)),
    ok.

write(Config, Pools) ->
    New = ?config(file, Config) ++ ".new",
    ok = file:write_file(New, json(#{pools => Pools})),
    ok = file:rename(New, ?config(file, Config)).

json(Map) when is_map(Map) ->
    ["{", lists:join(", ", [[$", atom_to_list(Key), "\": ", json(Value)]
                            || {Key, Value} <- maps:to_list(Map)]), "}"];
json(List) when is_list(List) -> ["[", lists:join(", ", [json(Item) || Item <- List]), "]"];
json(Text) when is_binary(Text) -> [$", Text, $"];
json(Number) -> integer_to_list(Number).
