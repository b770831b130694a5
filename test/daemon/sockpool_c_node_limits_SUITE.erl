%%% The limits of the daemon priv/sockpool_node (docs/limits.md): who exceeds one is told, and only he. In every
%%% case a neighbour, on another node or the same, has a lease, and has it still afterwards.
-module(sockpool_c_node_limits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([large_terms_are_passed_on/1, large_terms_that_are_looked_at/1, messages_of_more_than_64_mb/1,
         atoms_that_expand/1, exit_reasons/1, a_long_message_lets_others_in/1]).
-export([more_monitors_than_a_node_may_have/1, bytes_that_are_kept/1, silent_connections/1,
         pools_that_want_all_descriptors/1]).
-export([files_that_are_read_again/1, a_log_that_nobody_reads/1]).

-import(sockpool_test_util, [wait_until/1, settled/1]).
-import(sockpool_cluster, [client/1, run/2]).
-import(sockpool_remote_kit, [started/2, target/1]).

-define(MB, (1024 * 1024)).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [large_terms_are_passed_on, large_terms_that_are_looked_at, messages_of_more_than_64_mb, atoms_that_expand,
     exit_reasons, a_long_message_lets_others_in, more_monitors_than_a_node_may_have, bytes_that_are_kept,
     silent_connections, pools_that_want_all_descriptors, files_that_are_read_again, a_log_that_nobody_reads].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(fun() -> sockpool_remote_kit:init_suite(sockpool_tls_kit:start(Config)) end).

end_per_suite(Config) ->
    sockpool_remote_kit:end_suite(Config),
    sockpool_tls_kit:stop(Config).

init_per_testcase(Case, Config) ->
    #{node := Node} = Daemon = sockpool_c_daemon:start(options(Case, Config)),
    #{node := Other} = ?config(other, Config),
    Config1 = [{daemon, Daemon}, {pool, {Case, Node}}, {node, Node}, {server, sockpool_test_server:start()},
               {other_node, Other} | Config],
    Neighbour = {neighbour, Node},
    ok = wait_until(fun() -> sockpool:which_pools(Node) =/= {error, {nodedown, Node}} end),
    ok = sockpool:start_pool(Neighbour, (target(Config1))#{size => 2}),
    Mine = checked_out(self(), Neighbour),
    There = client(Other),
    [{leases, [Mine, {There, checked_out(There, Neighbour)}]} | Config1].

options(files_that_are_read_again, Config) ->
    #{args => ["--config", settings(Config)]};
options(a_log_that_nobody_reads, Config) ->
    Pipe = filename:join(?config(priv_dir, Config), "log"),
    #{prefix => ["/bin/sh", "-c",
                 "rm -f " ++ Pipe ++ "; mkfifo " ++ Pipe ++ "; exec 3<>" ++ Pipe ++
                     "; head -c 65536 /dev/zero >&3; echo event=registered; exec \"$0\" \"$@\" 2>&3"]};
options(Case, _Config) when Case =:= silent_connections; Case =:= pools_that_want_all_descriptors ->
    #{prefix => ["/bin/sh", "-c", "ulimit -n 512; exec \"$0\" \"$@\""]};
options(_Case, _Config) ->
    #{}.

checked_out(Client, Pool) when Client =:= self() ->
    {ok, Conn} = sockpool:checkout(Pool, 10000),
    Conn;
checked_out(Client, Pool) ->
    run(Client, fun() -> {ok, Conn} = sockpool:checkout(Pool, 10000), Conn end).

%% Who holds a lease would keep the daemon.
end_per_testcase(_Case, Config) ->
    [Mine, {There, Theirs}] = ?config(leases, Config),
    Given = {sockpool:checkin(Mine), run(There, fun() -> sockpool:checkin(Theirs) end)},
    0 = sockpool_c_daemon:stop(?config(daemon, Config)),
    ?assertEqual({ok, ok}, Given).

%% Both leases are as they were.
unharmed(Config) ->
    [Mine, {There, Theirs}] = ?config(leases, Config),
    Use = fun(Conn) -> {sockpool:send(Conn, "n"), sockpool:recv(Conn, 1, 10000)} end,
    ?assertEqual({ok, {ok, <<"n">>}}, Use(Mine)),
    ?assertEqual({ok, {ok, <<"n">>}}, run(There, fun() -> Use(Theirs) end)).

%%% Messages.

%% As large as a frame, over a pool and over a lease.
large_terms_are_passed_on(Config) ->
    Pool = node_pool(Config),
    Long = lists:seq(1000, 1101000),
    Deep = nested(100000),
    {ok, Lease} = sockpool:checkout(Pool),
    [begin
         ?assertEqual({ok, 1100001}, sockpool:call(Target, erlang, length, [Long], 60000)),
         ?assertEqual({ok, true}, sockpool:call(Target, erlang, is_list, [Deep], 60000)),
         ?assert({ok, Deep} =:= sockpool:call(Target, erlang, hd, [[Deep]], 60000)),
         ?assert({ok, Long} =:= sockpool:call(Target, erlang, hd, [[Long]], 60000)),
         ?assertEqual(ok, sockpool:send_to(Target, self_name(), Long)),
         ?assertEqual(ok, sockpool:send_to(Target, self_name(), Deep)),
         receive {got, First} -> ?assert(First =:= Long) end,
         receive {got, Second} -> ?assert(Second =:= Deep) end,
         ?assertEqual({error, {bad_argument, args, [1 | x]}},
                      request(Config, {call, make_ref(), there(Target), erlang, length, [1 | x], 1000}))
     end || Target <- [Pool, Lease]],
    ok = sockpool:checkin(Lease),
    unharmed(Config).

%% A pool's name is known there without its node.
there({Name, _}) -> Name;
there(Lease) -> Lease.

%% More terms than anybody needs where they are looked at; a deep one is no mistake.
large_terms_that_are_looked_at(Config) ->
    Many = lists:seq(1, 20000),
    Deep = nested(1000),
    ?assertEqual({error, emsgsize}, request(Config, {nonsense, Many})),
    ?assertEqual({error, {bad_request, {nonsense, Deep}}}, request(Config, {nonsense, Deep})),
    ?assertEqual({error, emsgsize}, request(Config, {call, Many, pool, erlang, length, [[]], 1000})),
    ?assertEqual({error, emsgsize}, request(Config, {start_pool, new, #{host => Many}})),
    ?assertEqual({error, {bad_option, host, Deep}}, request(Config, {start_pool, new, #{host => Deep, port => 1}})),
    unharmed(Config).

messages_of_more_than_64_mb(Config) ->
    Pool = {Name, Node} = started(Config, #{size => 1}),
    Data = binary:copy(<<"0123456789abcdef">>, 66 * ?MB div 16),
    {ok, Conn} = sockpool:checkout(Pool),
    [begin
         ?assertEqual({error, emsgsize}, sockpool:send(Conn, Data)),
         ?assertEqual({error, emsgsize}, request(Config, {request, make_ref(), Name, Data, 1, 1000})),
         ?assertEqual({error, emsgsize}, request(Config, Data))
     end || _ <- [1, 2]],
    %% Nobody is told of what nobody asked.
    {sockpool, Node} ! Data,
    ok = gen_server:cast({sockpool, Node}, Data),
    ?assertMatch({match, _}, re:run(sockpool_c_daemon:await_line(?config(daemon, Config), "event=message_dropped"),
                                    "reason=\"too long\"")),
    %% Nothing of it was sent.
    ?assertEqual(ok, sockpool:send(Conn, "x")),
    ?assertEqual({ok, <<"x">>}, sockpool:recv(Conn, 1, 10000)),
    ok = sockpool:checkin(Conn),
    ?assert(sockpool_c_daemon:memory_kb(?config(daemon, Config)) < 150 * 1024),
    unharmed(Config).

%% Of two bytes each in the frame, and 1,000 once they are written out.
atoms_that_expand(Config) ->
    Atom = binary_to_atom(unicode:characters_to_binary(lists:duplicate(255, 16#1f525))),
    Atoms = lists:duplicate(700000, Atom),
    ?assertEqual({error, emsgsize}, request(Config, {nonsense, Atoms})),
    ?assertEqual({error, emsgsize}, request(Config, {nonsense, Atoms})),
    ?assertEqual({error, {bad_request, {nonsense, Atom}}}, request(Config, {nonsense, Atom})),
    %% They were not written out to the end, which would be 700 MB. (Under AddressSanitizer 300 MB are normal.)
    ?assert(sockpool_c_daemon:most_memory_kb(?config(daemon, Config)) < 450 * 1024),
    unharmed(Config).

%% Why a process ended that had a lease, or watched the daemon, is not looked at.
exit_reasons(Config) ->
    Pool = {_, Node} = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         {Pid, Monitor} = spawn_monitor(fun() ->
                                                {ok, _} = sockpool:checkout(Pool),
                                                true = link_to_daemon(Node),
                                                exit(Reason())
                                        end),
         receive {'DOWN', Monitor, process, Pid, _} -> ok end,
         ok = wait_until(fun() -> maps:with([leased, idle], stats_of(Pool)) =:= #{leased => 0, idle => 1} end)
     end || Reason <- [fun() -> nested(1000) end, fun() -> lists:seq(1000, 1101000) end,
                       fun() -> binary:copy(<<"r">>, 66 * ?MB) end]],
    unharmed(Config).

link_to_daemon(Node) ->
    Tag = make_ref(),
    {sockpool, Node} ! {'$gen_call', {self(), Tag}, {start_pool, neighbour, #{host => "localhost", port => 1}}},
    receive {Tag, {error, {already_started, Pid}}} -> link(Pid) end.

stats_of(Pool) ->
    {ok, Stats} = sockpool:stats(Pool),
    Stats.

%% One message of thirty million terms, ready made: while they are looked at, others are answered all the time.
a_long_message_lets_others_in(Config) ->
    #{node := Node} = ?config(daemon, Config),
    Socket = join(Config, "long@127.0.0.1"),
    Count = 30000000,
    Frame = iolist_to_binary(
              sockpool_handmade_node:frame(
                [112, 131, sockpool_handmade_node:term({6, self(), '', sockpool}),
                 131, 104, 3, sockpool_handmade_node:term('$gen_call'), sockpool_handmade_node:term({self(), long}),
                 104, 2, sockpool_handmade_node:term(nonsense), 108, <<Count:32>>, binary:copy(<<97, 1>>, Count), 106])),
    others_are_answered(Node, fun() -> send_long(Socket, Frame) end),
    ok = gen_tcp:close(Socket),
    unharmed(Config).

%% Returns when it has begun, with what returns when it is over.
send_long(Socket, Frame) ->
    BeginUs = erlang:monotonic_time(microsecond),
    ok = gen_tcp:send(Socket, Frame),
    %% To this process, over the connection of its own node.
    {BeginUs, fun() -> receive {long, Answer} -> ?assertEqual({error, emsgsize}, Answer) end end}.

%%% What is kept.

%% The process whose monitor is one too many is told, as are those that call after that; the others are served.
more_monitors_than_a_node_may_have(Config) ->
    Node = ?config(node, Config),
    Most = 262144,
    Socket = join(Config, "crowd@127.0.0.1"),
    %% Of all but its last four bytes, which are the number, each is as the others.
    Length = iolist_size(monitor_frame(0)) - 4,
    <<Same:Length/binary, 0:32>> = iolist_to_binary(monitor_frame(0)),
    ?assertEqual(iolist_to_binary(monitor_frame(Most)), <<Same/binary, Most:32>>),
    ok = gen_tcp:send(Socket, [[Same, <<N:32>>] || N <- lists:seq(1, Most)]),
    ok = gen_tcp:send(Socket, [monitor_frame(N) || N <- lists:seq(Most + 1, Most + 3)]),
    [?assertEqual({21, sockpool, self(), ref(N), system_limit}, sockpool_handmade_node:recv_control(Socket))
     || N <- lists:seq(Most + 1, Most + 3)],
    ?assertMatch({match, _}, re:run(sockpool_c_daemon:await_line(?config(daemon, Config), "event=watch_refused"),
                                    "node=crowd@")),
    ?assertMatch({ok, #{leased := 2}}, sockpool:stats({neighbour, Node})),
    %% One goes, one may come.
    ok = sockpool_handmade_node:send_control(Socket, {20, self(), sockpool, ref(1)}),
    ok = gen_tcp:send(Socket, [monitor_frame(N) || N <- [Most + 4, Most + 5]]),
    ?assertEqual({21, sockpool, self(), ref(Most + 5), system_limit},
                 sockpool_handmade_node:recv_control(Socket)),
    ok = gen_tcp:close(Socket),
    ?assertEqual(system_limit, run(client(?config(other_node, Config)), fun() -> crowd_of_one(Node, Most) end)),
    unharmed(Config).

%% A process that uses up what its node may have, of which one monitor is that for all calls of that node: those
%% go on.
crowd_of_one(Node, Most) ->
    Refs = [monitor(process, {sockpool, Node}) || _ <- lists:seq(1, Most)],
    Reason = receive {'DOWN', _, process, {sockpool, Node}, Why} -> Why end,
    {ok, #{leased := 2, waiting := 0}} = sockpool:stats({neighbour, Node}),
    [true = demonitor(Ref, [flush]) || Ref <- Refs],
    Reason.

monitor_frame(N) ->
    Ref = sockpool_handmade_node:term(ref(N)),
    sockpool_handmade_node:frame([112, 131, 104, 4, 97, 19, sockpool_handmade_node:term(self()),
                                  sockpool_handmade_node:term(sockpool), Ref]).

%% As a node of that name would make them.
ref(N) ->
    Node = <<"crowd@127.0.0.1">>,
    binary_to_term(<<131, 90, 3:16, 119, (byte_size(Node)), Node/binary, 7:32, 0:32, 0:32, N:32>>).

%% A node gets half of the 256 MB that there are, and another one something all the same.
bytes_that_are_kept(Config) ->
    Pool = {Name, Node} = started(Config, #{size => 1, max_overflow => 0}),
    Other = client(?config(other_node, Config)),
    Server = {sockpool, Node},
    {ok, Conn} = sockpool:checkout(Pool),
    Data = binary:copy(<<"k">>, 32 * ?MB),
    Kept = fun() -> many_requests(Server, Name, Data) end,
    {Mine, Refused} = Kept(),
    ?assertEqual({4, 2}, {length(Mine), length(Refused)}),
    {Theirs, _} = run(Other, Kept),
    ?assertEqual(2, length(Theirs)),
    ?assertMatch({ok, #{waiting := 6}}, sockpool:stats(Pool)),
    [ok = gen_server:cast(Server, {cancel, Id}) || Id <- Mine ++ Theirs],
    ?assertMatch({ok, #{waiting := 0}}, sockpool:stats(Pool)),
    %% There is room again.
    ok = sockpool:checkin(Conn),
    ?assert({ok, Data} =:= sockpool:request(Pool, Data, byte_size(Data), 60000)),
    unharmed(Config).

%% Those that wait, and those that were refused.
many_requests(Server, Name, Data) ->
    Ids = [make_ref() || _ <- lists:seq(1, 6)],
    Calls = [{Id, gen_server:send_request(Server, {request, Id, Name, Data, byte_size(Data), infinity})} || Id <- Ids],
    {ok, _} = gen_server:call(Server, {stats, Name}, 60000),
    lists:partition(fun(Id) ->
                            case gen_server:wait_response(proplists:get_value(Id, Calls), 0) of
                                timeout -> true;
                                {reply, {error, enobufs}} -> false
                            end
                    end, Ids).

%%% Descriptors: there are 512.

silent_connections(Config) ->
    Pool = started(Config, #{size => 1}),
    Silent = [sockpool_handmade_node:connect(handmade(Config)) || _ <- lists:seq(1, 600)],
    ?assertMatch({match, _}, re:run(sockpool_c_daemon:await_line(?config(daemon, Config), "event=refused"),
                                    "reason=\"too many at once\"")),
    %% A member is let in, and pools find their connections.
    Member = join(Config, "member@127.0.0.1"),
    Large = {large, ?config(node, Config)},
    ok = sockpool:start_pool(Large, (target(Config))#{size => 200}),
    ?assertMatch(#{idle := 200, connect_failures := 0}, settled(Large)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 10000)),
    %% The oldest have gone.
    {Gone, Left} = lists:split(600 - 63, Silent),
    [?assertEqual({error, closed}, gen_tcp:recv(Socket, 0, 10000)) || Socket <- Gone],
    [?assertMatch({_, {error, timeout}}, {Socket, gen_tcp:recv(Socket, 0, 0)}) || Socket <- tl(Left)],
    ok = gen_tcp:close(Member),
    unharmed(Config).

%% They are told, and members are let in.
pools_that_want_all_descriptors(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (target(Config))#{size => 600, backoff => {10, 10}}),
    ok = wait_until(fun() -> #{connect_failures := Failed} = stats_of(Pool), Failed > 0 end),
    ?assertMatch({match, _}, re:run(sockpool_c_daemon:await_line(?config(daemon, Config), "event=cannot_connect"),
                                    "emfile")),
    Members = [join(Config, lists:concat(["member", N, "@127.0.0.1"])) || N <- lists:seq(1, 50)],
    [ok = gen_tcp:close(Member) || Member <- Members],
    ok = sockpool:stop_pool(Pool),
    unharmed(Config).

%%% What others do meanwhile.

%% At SIGHUP with many pools of TLS: calls are answered all the time. What keeps this machine may keep a call
%% as well, but not in each of many times.
files_that_are_read_again(Config) ->
    #{node := Node} = Daemon = ?config(daemon, Config),
    Read = fun() ->
                   {hang_up_at_once(Daemon), fun() -> sockpool_c_daemon:await_line(Daemon, "event=configured") end}
           end,
    others_are_answered(Node, Read),
    unharmed(Config).

%% The longest time without an answer is a small part of all the time that this takes.
others_are_answered(Node, Begin) ->
    Caller = spawn_link(fun() -> call_and_note(Node, []) end),
    ok = wait_until(fun() -> answers(Caller) =/= [] end),
    ok = wait_until(fun() ->
                            {LongestUs, AllUs} = Times = silence(Caller, Begin),
                            ct:pal("~b us at most without an answer, of ~b us", [LongestUs, AllUs]),
                            3 * LongestUs < AllUs orelse Times
                    end),
    unlink(Caller),
    exit(Caller, kill).

silence(Caller, Begin) ->
    {BeginUs, AwaitEnd} = Begin(),
    _ = AwaitEnd(),
    EndUs = erlang:monotonic_time(microsecond),
    Times = lists:sort([BeginUs, EndUs | [Us || Us <- answers(Caller), Us > BeginUs, Us < EndUs]]),
    {lists:max(lists:zipwith(fun(Us, NextUs) -> NextUs - Us end, lists:droplast(Times), tl(Times))),
     EndUs - BeginUs}.

%% By a shell that is there already: to start one takes longer than to read the files.
hang_up_at_once(#{os_pid := OsPid}) ->
    Command = lists:concat(["echo ready; read go; kill -HUP ", OsPid]),
    Shell = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Command]}, exit_status]),
    receive {Shell, {data, "ready\n"}} -> ok end,
    BeginUs = erlang:monotonic_time(microsecond),
    true = port_command(Shell, "\n"),
    receive {Shell, {exit_status, 0}} -> BeginUs end.

%% When they came, since this was last asked.
answers(Caller) ->
    Caller ! {answers, self()},
    receive {Caller, Times} -> Times end.

call_and_note(Node, Times) ->
    receive
        {answers, From} ->
            From ! {self(), Times},
            call_and_note(Node, [])
    after 0 ->
        {ok, _} = sockpool:stats({neighbour, Node}),
        call_and_note(Node, [erlang:monotonic_time(microsecond) | Times])
    end.

%% Pools, each with a file of its own that takes some milliseconds.
settings(Config) ->
    Dir = ?config(priv_dir, Config),
    {ok, Pem} = file:read_file(sockpool_tls_kit:pem(Config, "ca")),
    Certificates = case os:getenv("SOCKPOOL_NODE") of
                       false -> 400;
                       _Checked -> 100 % for each thing it does, that one takes many times as long
                   end,
    Pools = [begin
                 File = filename:join(Dir, lists:concat(["ca", N, ".pem"])),
                 ok = file:write_file(File, [integer_to_list(N), "\n", lists:duplicate(Certificates, Pem)]),
                 io_lib:format("\"tls~b\": {\"transport\": \"tls\", \"host\": \"localhost\", \"port\": 1, \"size\": 0, "
                               "\"tls\": {\"cacertfile\": \"~ts\"}}", [N, File])
             end || N <- lists:seq(1, 25)],
    Path = filename:join(Dir, "settings.json"),
    ok = file:write_file(Path, ["{\"pools\": {", lists:join(",\n", Pools), "}}"]),
    Path.

%% Its stderr is a pipe that is full.
a_log_that_nobody_reads(Config) ->
    [ok = gen_tcp:close(join(Config, lists:concat(["talk", N, "@127.0.0.1"]))) || N <- lists:seq(1, 100)],
    unharmed(Config).

%%% Both.

join(Config, Name) -> sockpool_handmade_node:join(handmade(Config), Name).

handmade(Config) ->
    [Name, Host] = string:lexemes(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    #{listens => Port, name => ?config(node, Config), cookie => atom_to_list(erlang:get_cookie())}.

%% Of connections to the node of this test, where a process is registered that passes on what it gets.
node_pool(Config) ->
    Pool = ?config(pool, Config),
    Tester = self(),
    true = register(self_name(), spawn_link(fun() -> pass_on(Tester) end)),
    ok = sockpool:start_pool(Pool, #{transport => node, node => node(), size => 1}),
    _ = settled(Pool),
    Pool.

self_name() -> ?MODULE.

pass_on(Tester) ->
    receive Message -> Tester ! {got, Message} end,
    pass_on(Tester).

request(Config, Request) -> gen_server:call({sockpool, ?config(node, Config)}, Request, 60000).

nested(0) -> [];
nested(Depth) -> nested(Depth, []).

nested(0, Term) -> Term;
nested(Depth, Term) -> nested(Depth - 1, [Term]).
