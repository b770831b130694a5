%%% sockpool:top/0,1 in a shell at a real pseudo-terminal, which script(1) makes: of the node itself, over --remsh, and of another
%%% node; and where there is no terminal.
-module(sockpool_top_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([in_a_shell/1, over_remsh/1, of_another_node/1, sorted/1, without_a_terminal/1, options/1, names_and_errors/1, narrow/1]).

-import(sockpool_test_util, [settled/1]).

-define(PATIENCE_MS, 20000).
-define(POOL, 'top orders').

suite() -> [{timetrap, {minutes, 3}}].

all() -> [in_a_shell, over_remsh, of_another_node, sorted, without_a_terminal, options, names_and_errors, narrow].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool_cluster:be_a_node(),
    Test = self(),
    Owner = spawn(fun() -> Test ! {self(), sockpool_test_server:start()}, receive stop -> ok end end),
    Server = receive {Owner, Started} -> Started end,
    ok = sockpool:start_pool(?POOL, maps:merge(sockpool_test_server:target(Server), #{size => 3})),
    _ = settled(?POOL),
    [{owner, Owner}, {server, Server} | Config].

end_per_suite(Config) ->
    ok = sockpool:stop_pool(?POOL),
    ?config(owner, Config) ! stop.

%%% Cases.

%% A pool of its own, started by hand. What is typed after the end goes to the shell again, whole.
in_a_shell(Config) ->
    Shell = shell(["-pa ", code:lib_dir(sockpool, ebin)], Config),
    typed(Shell, "{ok, _} = application:ensure_all_started(sockpool), "
                 "ok = sockpool:start_pool(shop, #{host => \"127.0.0.1\", port => " ++ port(Config) ++ ", size => 2}).\n", "ok"),
    typed(Shell, "sockpool:top(#{interval => 200}).\n", "per s"),
    shows(Shell, ["pools 1", "shop", "2\\+10", "ok", "q quit"]),
    typed(Shell, "n\n", "pool\\*"),
    typed(Shell, "1\n", "nothing is wrong"),
    shows(Shell, ["pool shop  to 127.0.0.1:" ++ port(Config) ++ " by tcp", "connections +size 2", "times +p50", "b back"]),
    typed(Shell, "b\n", "wait  +oldest"),
    typed(Shell, "q\n", "\nok|ok\r\n"),
    typed(Shell, "lists:sum([20, 22]).\n", "42"),
    ended(Shell).

over_remsh(Config) ->
    Shell = shell(["-sname top_", integer_to_list(erlang:unique_integer([positive])), " -setcookie ", atom_to_list(erlang:get_cookie()),
                   " -hidden -remsh ", atom_to_list(node())], Config),
    typed(Shell, "sockpool:top().\n", "per s"),
    shows(Shell, [atom_to_list(node()), "'top orders'", "3\\+10"]),
    typed(Shell, "w\n", "wait\\*"),
    typed(Shell, "q\n", "\nok|ok\r\n"),
    typed(Shell, "lists:sum([20, 22]).\n", "42"),
    ended(Shell).

of_another_node(Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    ok = sockpool:start_pool({far, Node}, #{host => "127.0.0.1", port => sockpool_test_server:port(?config(server, Config)), size => 1}),
    Page = without_lines(fun() -> sockpool:top(#{node => Node}) end),
    has(Page, atom_to_list(Node)),
    has(Page, "far"),
    ok = sockpool:stop_pool({far, Node}),
    sockpool_cluster:stop_peer(Peer),
    ?assertMatch({error, {nodedown, Node}}, sockpool:top(#{node => Node})).

%% The most first, or by name.
sorted(Config) ->
    Port = sockpool_test_server:port(?config(server, Config)),
    [ok = sockpool:start_pool(Name, #{host => "127.0.0.1", port => Port, size => 1}) || Name <- [a_first, z_last]],
    {ok, Conn} = sockpool:checkout(z_last),
    [?assertEqual({Sort, Expected}, {Sort, order(without_lines(fun() -> sockpool:top(#{sort => Sort}) end), [a_first, z_last])})
     || {Sort, Expected} <- [{name, [a_first, z_last]}, {in_use, [z_last, a_first]}]],
    ok = sockpool:checkin(Conn),
    [ok = sockpool:stop_pool(Name) || Name <- [a_first, z_last]].

order(Page, Names) ->
    At = fun(Name) -> length(Page) - length(string:find(Page, " " ++ atom_to_list(Name) ++ " ")) end,
    [Name || {_, Name} <- lists:sort([{At(Name), Name} || Name <- Names])].

%% Once, as nobody can end it. Nothing is left.
without_a_terminal(_Config) ->
    Page = without_lines(fun() -> sockpool:top() end),
    has(Page, "'top orders'"),
    sockpool_test_util:assert_no_messages().

options(_Config) ->
    [?assertMatch({error, {bad_argument, opts, _}}, sockpool:top(Opts))
     || Opts <- [#{interval => 0}, #{interval => soon}, #{sort => size}, #{every => 1000}, #{node => "n"}, 7, [sort]]].

%% Nothing that a terminal would obey, whoever wrote it.
names_and_errors(_Config) ->
    {ok, #{name := ?POOL} = Stats} = sockpool:stats(?POOL),
    Hostile = 'a\e]0;owned\a\e[2J <b>',
    Row = #{stats => Stats#{name => Hostile}, rate => 12.34, errors => 0},
    Table = unicode:characters_to_list(sockpool_top:table([{Row, {[], #{}}}], rate, 200)),
    ?assertEqual([], [Char || Char <- Table, Char < 32, Char =/= $\n]),
    has(Table, "per s\\*"),
    {ok, Reading} = sockpool_verdict:snapshot(?POOL),
    #{stats := Its} = Reading,
    Now = Reading#{stats := Its#{last_error => {unread_bytes, <<"\e[31mred\r\n">>}, last_error_at => 0}},
    Detail = unicode:characters_to_list(sockpool_top:detail(Now, Now, 200)),
    ?assertEqual([], [Char || Char <- Detail, Char < 32, Char =/= $\n]),
    has(Detail, "spoke first").

narrow(_Config) ->
    {ok, Stats} = sockpool:stats(?POOL),
    Rows = [{#{stats => Stats#{name => Name}, rate => 0, errors => 0}, {[], #{}}} || Name <- [a, list_to_atom(lists:duplicate(200, $x))]],
    [?assert(length(Line) < 60) || Line <- string:split(unicode:characters_to_list(sockpool_top:table(Rows, name, 60)), "\n", all)].

port(Config) -> integer_to_list(sockpool_test_server:port(?config(server, Config))).

%%% A shell at a terminal.

shell(Args, Config) ->
    Command = lists:flatten(["stty cols 132 rows 30; exec erl ", Args]),
    Home = ?config(priv_dir, Config),
    #{program := Port} = Shell = sockpool_test_program:start("script", ["-qfc", Command, "/dev/null"], #{cd => Home}),
    _ = said(Port, "1> ", ""),
    Shell.

%% Until what it says since then has that in it.
typed(#{program := Port}, Line, Awaited) ->
    forget(Port),
    true = port_command(Port, Line),
    put(said, said(Port, Awaited, "")).

%% In what it says next, or has just said.
shows(#{program := Port}, Parts) ->
    lists:foldl(fun(Part, Said) -> said(Port, Part, Said) end, get(said), Parts).

said(Port, Awaited, Said) ->
    said(Port, Awaited, Said, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

%% A table goes on and on.
said(Port, Awaited, Said, Deadline) ->
    case re:run(Said, Awaited, [unicode]) of
        {match, _} -> Said;
        nomatch ->
            receive
                {Port, {data, Data}} -> said(Port, Awaited, Said ++ readable(Data), Deadline);
                {Port, {exit_status, Status}} -> error({ended, Status, Said})
            after max(0, Deadline - erlang:monotonic_time(millisecond)) -> error({not_said, Awaited, Said})
            end
    end.

readable(Data) -> re:replace(Data, "\e\\[[0-9;?]*[a-zA-Z]", "", [global, {return, list}]).

forget(Port) ->
    receive {Port, {data, _}} -> forget(Port) after 0 -> ok end.

%% On the node itself it would end this one.
ended(Shell) -> sockpool_test_program:stop(Shell).

%%% No shell.

%% With a group leader that has no lines, and keeps what is written.
without_lines(Fun) ->
    Test = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        Kept = spawn_link(fun() -> keeps(Test, []) end),
        true = group_leader(Kept, self()),
        Result = Fun(),
        Kept ! {told, Result}
    end),
    receive {page, Result, Page} -> ?assertEqual(ok, Result), receive {'DOWN', Monitor, process, Pid, _} -> Page end
    after ?PATIENCE_MS -> error(no_end)
    end.

%% The line that is asked for is the end, but not before there is something to see.
keeps(Test, Kept) ->
    receive
        {io_request, From, As, {put_chars, unicode, Chars}} ->
            From ! {io_reply, As, ok},
            keeps(Test, [Kept, Chars]);
        {io_request, From, As, {get_line, unicode, _Prompt}} when Kept =/= [] ->
            From ! {io_reply, As, eof},
            keeps(Test, Kept);
        {io_request, From, As, {get_geometry, _}} ->
            From ! {io_reply, As, {error, enotsup}},
            keeps(Test, Kept);
        {told, Result} ->
            Test ! {page, Result, unicode:characters_to_list(unicode:characters_to_binary(Kept))}
    end.

has(Text, Part) -> ?assertMatch({match, _}, re:run(Text, Part, [unicode]), Text).
