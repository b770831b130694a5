%%% The README and the documents in docs/: every block of code is run as it stands, every link leads somewhere, and the
%%% tables are the code's.
%%%
%%% A document is one session, in a directory of its own. A `sh' block is a terminal: commands are run, a server at its end
%%% goes on, and a VM (`rebar3 shell', `erl') stands for itself, started without rebar3. What is named for the reader to
%%% do as a whole, such as `make test', is looked at by `make -n'. An `erlang' block is typed into the last shell; where it
%%% has a file's name it is that file, and compiles without a warning. Gleam's blocks are compiled and run by
%%% scripts/test_gleam.sh; rebar.config, mix.exs and config.exs are used in sockpool_package_SUITE.
-module(sockpool_docs_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([every_block/1, links/1, options/1, tls_options/1, ten_options/1, statistics/1]).
-export([readme/1, readme_elixir/1, reference/1, workers/1, protocols/1, tls/1, nodes/1, c_node/1,
         performance/1, observability/1, troubleshooting/1]).

-import(sockpool_test_util, [root/0, wait_until/1, wait_until/2]).
-import(sockpool_docs_kit, [documents/0, lines/1, prose/1, blocks/1]).

-define(PATIENCE_MS, 60000).
-define(READING_MS, 2000).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [every_block, links, options, tls_options, ten_options, statistics,
     readme, readme_elixir, reference, workers, protocols, tls, nodes, c_node, performance, observability, troubleshooting].

%% None is in a language that nobody runs, and none in a document that is no case here.
every_block(_Config) ->
    Cases = [atom_to_list(Case) || Case <- all()],
    [begin
         ?assert(lists:member(Language, ["erlang", "elixir", "gleam", "sh", "json", "text"]), {Document, Line, Language}),
         Name = string:lowercase(filename:basename(Document, ".md")),
         ?assert(Language =:= "text" orelse lists:member(Name, Cases), {Document, Line})
     end || Document <- documents(), {Language, _, Line, _} <- blocks(Document)].

%%% A session.

session(Document, Config) -> session(Document, Config, []).

%% But for the blocks with one of these words.
session(Document, Config, Left) ->
    Dir = filename:join(?config(priv_dir, Config), filename:basename(Document, ".md")),
    ok = filelib:ensure_path(Dir),
    [ok = file:make_symlink(filename:join(root(), Name), filename:join(Dir, Name)) || Name <- ["bench", "examples"]],
    ok = file:make_symlink(code:priv_dir(sockpool), filename:join(Dir, "priv")),
    Blocks = [Block || {Language, _, _, Text} = Block <- blocks(Document), is_typed(Language, Document),
                       not lists:any(fun(Word) -> string:find(Text, Word) =/= nomatch end, Left)],
    read(Blocks, #{document => Document, dir => Dir, shell => none, vms => [], servers => []}).

%% The README's Elixir has a case of its own.
is_typed("elixir", Document) -> Document =/= "README.md" andalso os:find_executable("elixir") =/= false;
is_typed(Language, _Document) -> Language =/= "gleam".

read(Blocks, State0) ->
    put(state, State0),
    try
        [begin
             State = get(state),
             put(at, {maps:get(document, State), Line}),
             put(state, block(Language, File, Text, State))
         end || {Language, File, Line, Text} <- Blocks],
        ok
    catch
        Class:Reason:Stack -> erlang:raise(Class, {get(at), Reason}, Stack)
    after
        #{vms := Vms, servers := Servers} = get(state),
        [peer:stop(Vm) || Vm <- Vms],
        [ended(Server) || Server <- Servers]
    end.

block("text", _File, _Text, State) ->
    State;
block("sh", "", Text, State) ->
    Commands = string:lexemes(lists:flatten(string:replace(Text, "\\\n", "", all)), "\n"),
    lists:foldl(fun command/2, State, Commands);
block("json", [_ | _] = File, Text, #{dir := Dir} = State) ->
    ok = file:write_file(filename:join(Dir, File), Text),
    State;
block("erlang", "", Text, State) ->
    #{shell := Shell} = Next = with_shell(State),
    read_for_a_while(Shell),
    case peer:call(Shell, sockpool_docs_session, type, [Text], ?PATIENCE_MS) of
        ok -> Next;
        {error, Said} -> error(lists:flatten(Said))
    end;
block("elixir", "", Text, #{dir := Dir} = State) ->
    ?assertMatch({0, _}, run(Dir, elixir(Dir, Text))),
    State;
block("erlang", "rebar.config", _Text, State) ->
    State;
block("erlang", "sys.config", Text, #{dir := Dir} = State) ->
    Path = filename:join(Dir, "sys.config"),
    ok = file:write_file(Path, Text),
    {ok, [[{sockpool, Env}]]} = file:consult(Path),
    Vm = vm(#{}, ["-config", Path]),
    {ok, _} = peer:call(Vm, application, ensure_all_started, [sockpool]),
    ?assertEqual(lists:sort(maps:keys(proplists:get_value(pools, Env))),
                 lists:sort(element(2, peer:call(Vm, sockpool, which_pools, [])))),
    peer:stop(Vm),
    State;
block("erlang", File, Text, #{dir := Dir} = State) ->
    ".erl" = filename:extension(File),
    Path = filename:join(Dir, File),
    ok = file:write_file(Path, Text),
    {ok, _Module, _Beam, []} = compile:file(Path, [binary, return]),
    State.

%%% Terminals.

command(Line, #{dir := Dir} = State) ->
    case string:lexemes(Line, " ") of
        ["make", Target] when Target =/= "-C" ->
            looked_at(Line, State);
        ["make", "-C", "bench", "run" | _] ->
            looked_at(Line, State);
        ["rebar3", "shell" | Args] ->
            Vm = shell(Args, State),
            State#{shell := Vm, vms := [Vm | maps:get(vms, State)]};
        ["erl", "-sname", Name] ->
            Vm = vm(#{name => list_to_atom(Name)}, []),
            State#{vms := [Vm | maps:get(vms, State)]};
        ["bench/bin/echo_server", Port] ->
            serving(Line, {port, list_to_integer(Port)}, State);
        [Server, Option, Port | _] when Server =:= "redis-server", Option =:= "--port"; Server =:= "memcached", Option =:= "-p" ->
            serving(Line, {port, list_to_integer(Port)}, State);
        ["aiosmtpd", "-n", "-l", "127.0.0.1:" ++ Port] ->
            serving(Line, {port, list_to_integer(Port)}, State);
        ["openssl", "s_server", "-accept", Port | _] ->
            serving(Line, {port, list_to_integer(Port)}, State);
        ["priv/sockpool_node", "--config", _File] ->
            serving(Line, {says, "event=registered"}, State);
        _ ->
            ?assertMatch({0, _}, run(Dir, Line)),
            State
    end.

looked_at("make " ++ Rest, State) ->
    ?assertMatch({0, _}, run(root(), "make -n " ++ Rest)),
    State.

run(Dir, Line) ->
    Port = terminal(Dir, Line),
    said(Port, "").

said(Port, Said) ->
    receive
        {Port, {data, Data}} -> said(Port, Said ++ Data);
        {Port, {exit_status, Status}} -> {Status, Said}
    end.

terminal(Dir, Line) ->
    open_port({spawn_executable, "/bin/sh"}, [{cd, Dir}, {args, ["-c", Line]}, exit_status, stderr_to_stdout]).

serving(Line, Until, #{dir := Dir, servers := Servers} = State) ->
    Port = terminal(Dir, "exec " ++ Line),
    ok = serves(Port, Until, ""),
    State#{servers := [Port | Servers]}.

serves(Port, {says, Part} = Until, Said) ->
    case string:find(Said, Part) of
        nomatch ->
            receive
                {Port, {data, Data}} -> serves(Port, Until, Said ++ Data);
                {Port, {exit_status, Status}} -> {exit_status, Status, Said}
            after ?PATIENCE_MS -> {says_only, Said}
            end;
        _ -> ok
    end;
serves(Port, {port, Number}, _Said) ->
    wait_until(fun() ->
                       receive
                           {Port, {exit_status, _}} = Ended -> error(Ended)
                       after 0 -> accepts(Number)
                       end
               end).

accepts(Number) ->
    case gen_tcp:connect("127.0.0.1", Number, []) of
        {ok, Socket} -> gen_tcp:close(Socket), true;
        {error, Reason} -> Reason
    end.

ended(Server) ->
    {os_pid, Pid} = erlang:port_info(Server, os_pid),
    _ = os:cmd("kill " ++ integer_to_list(Pid)),
    receive {Server, {exit_status, _}} -> ok end.

%%% Shells.

%% Some documents need but one, and say nothing of it.
with_shell(#{shell := none, vms := Vms} = State) ->
    Vm = shell([], State),
    State#{shell := Vm, vms := [Vm | Vms]};
with_shell(State) ->
    State.

shell(Args, #{dir := Dir}) ->
    Vm = vm(maps:from_list([{name, list_to_atom(Name)} || ["--sname", Name] <- pairs(Args)]), []),
    [{ok, _} = peer:call(Vm, application, ensure_all_started, [list_to_atom(App)]) || ["--apps", App] <- pairs(Args)],
    ok = peer:call(Vm, sockpool_docs_session, start, [Dir]),
    Vm.

pairs([]) -> [];
pairs([Option, Value | Rest]) -> [[Option, Value] | pairs(Rest)].

vm(Options, Args) ->
    Ebin = filename:join(code:lib_dir(sockpool), "ebin"),
    {ok, Vm, _} = peer:start(Options#{connection => standard_io, wait_boot => ?PATIENCE_MS,
                                      args => ["-pa", Ebin, "-pa", filename:dirname(code:which(?MODULE)),
                                               "-kernel", "logger_level", "critical" | Args]}),
    Vm.

%% A reader takes longer than a pool to connect. Not for ever: some servers are not there.
read_for_a_while(Vm) ->
    {Reader, Monitor} = spawn_monitor(fun() ->
                                              wait_until(fun() -> peer:call(Vm, sockpool_docs_session, settled, []) end,
                                                         ?READING_MS)
                                      end),
    receive {'DOWN', Monitor, process, Reader, _} -> ok end.

%%% The documents.

readme(Config) -> session("README.md", Config).

reference(Config) -> session("docs/reference.md", Config).

%% With servers, at the ports that it names. What this machine does not have is not read.
workers(Config) -> with_servers([{redis, 7379, "{eredis,"}, {pgsql, 7432, "{pgsql_proto,"}], "docs/workers.md", Config).

protocols(Config) -> with_servers([{pgsql, 7432, "postgres:"}], "docs/protocols.md", Config).

with_servers(Wanted, Document, Config) ->
    {There, Not} = lists:partition(fun({Kind, _, _}) -> sockpool_drivers:missing(Kind) =:= [] end, Wanted),
    Servers = [sockpool_drivers:server(Kind, Port) || {Kind, Port, _} <- There],
    try
        session(Document, Config, [Word || {_, _, Word} <- Not])
    after
        [ok = sockpool_drivers:stop(Server) || Server <- Servers]
    end.

tls(Config) -> session("docs/tls.md", Config).

nodes(Config) -> session("docs/nodes.md", Config).

c_node(Config) -> session("docs/c_node.md", Config).

performance(Config) -> session("docs/performance.md", Config).

observability(Config) -> session("docs/observability.md", Config).

troubleshooting(Config) -> session("docs/troubleshooting.md", Config).

%% Beside the echo server that the README starts.
readme_elixir(Config) ->
    case os:find_executable("elixir") of
        false ->
            {skip, "there is no elixir"};
        _Elixir ->
            Blocks = blocks("README.md"),
            [Server | _] = [Text || {"sh", _, _, Text} <- Blocks],
            State = lists:foldl(fun command/2,
                                #{document => "README.md", dir => root(), shell => none, vms => [], servers => []},
                                string:lexemes(Server, "\n")),
            try
                Dir = ?config(priv_dir, Config),
                [?assertMatch({0, _}, run(Dir, elixir(Dir, Text))) || {"elixir", "", _, Text} <- Blocks]
            after
                [ended(Port) || Port <- maps:get(servers, State)]
            end
    end.

%% What runs the block, in an application that depends on sockpool.
elixir(Dir, Text) ->
    Path = filename:join(Dir, "block.exs"),
    ok = file:write_file(Path, ["{:ok, _} = Application.ensure_all_started(:sockpool)\n", Text]),
    "elixir -pa " ++ filename:join(code:lib_dir(sockpool), "ebin") ++ " " ++ Path.

%%% Links.

links(_Config) ->
    Documents = documents() ++ ["CHANGELOG.md", "gleam/README.md"],
    ?assertEqual([], [{Document, Link} || Document <- Documents, Link <- links_of(Document),
                                          not leads_somewhere(Document, Link)]).

links_of(Document) ->
    case re:run(lists:join("\n", prose(lines(Document))), "\\]\\(([^)\\s]+)\\)",
                [global, unicode, {capture, all_but_first, list}]) of
        {match, Found} -> lists:append(Found);
        nomatch -> []
    end.

leads_somewhere(_Document, "https://" ++ _) ->
    true;
leads_somewhere(Document, Link) ->
    [File | Anchor] = string:split(Link, "#"),
    To = case File of
             "" -> Document;
             _ -> filename:join(filename:dirname(Document), File)
         end,
    filelib:is_regular(filename:join(root(), To))
        andalso (Anchor =:= [] orelse lists:member(hd(Anchor), anchors(To))).

anchors(File) ->
    [re:replace(string:replace(string:lowercase(string:trim(Heading, leading, "# ")), " ", "-", all), "[^a-z0-9_-]", "",
                [global, {return, list}])
     || "#" ++ Heading <- prose(lines(File))].

%%% Tables.

%% The rows of the table below that heading, as lists of cells.
table(File, Heading) ->
    [_ | After] = lists:dropwhile(fun(Line) -> Line =/= Heading end, lines(File)),
    [_Head, _Line | Rows] = lists:takewhile(fun(Line) -> hd(Line ++ " ") =:= $| end,
                                            lists:dropwhile(fun(Line) -> hd(Line ++ " ") =/= $| end, After)),
    [[string:trim(Cell) || Cell <- string:lexemes(Row, "|")] || Row <- Rows].

plain(Cell) -> [Char || Char <- Cell, Char =/= $`].

%% [{Key, Default}]; two keys may share a row.
described(File, Heading) ->
    [{list_to_atom(plain(Key)), Default}
     || [Keys, Default | _] <- table(File, Heading), Key <- string:lexemes(Keys, ", ")].

%% There is no pool without a server.
defaults(Rows) -> maps:from_list([{Key, Default} || {Key, Default, _Kind, _Rules} <- Rows]).

%% Those that have one value by default, whatever the transport.
assert_defaults(Described, Rows) ->
    ?assertEqual([], [{Key, Default, Is}
                      || {Key, "`" ++ _ = Default} <- Described, not lists:member(Key, [tls, server_name]),
                         re:run(Default, "^`[^`]+`$") =/= nomatch, Is <- [maps:get(Key, defaults(Rows))],
                         lists:delete($ , plain(Default)) =/= lists:flatten(io_lib:format("~tw", [Is]))]).

options(_Config) ->
    Described = described("docs/reference.md", "## Options"),
    Rows = sockpool_option_table:pool(),
    ?assertEqual(lists:sort(maps:keys(defaults(Rows))), lists:sort([Key || {Key, _} <- Described])),
    assert_defaults(Described, Rows).

tls_options(_Config) ->
    Described = described("docs/tls.md", "## Options"),
    Rows = sockpool_option_table:tls(),
    ?assertEqual(lists:sort(maps:keys(defaults(Rows))), lists:sort([Key || {Key, _} <- Described])),
    assert_defaults(Described, Rows).

ten_options(_Config) ->
    Described = described("README.md", "## The ten options that matter"),
    ?assertEqual(10, length(Described)),
    assert_defaults(Described, sockpool_option_table:pool()).

%% Every counter has its row. Gauges are in the sentence above.
statistics(_Config) ->
    Gauges = [name, size, max_overflow, total, idle, leased, connecting, waiting, oldest_wait, last_error, last_error_at],
    {ok, _} = application:ensure_all_started(sockpool),
    ok = sockpool:start_pool(?MODULE, #{host => "127.0.0.1", port => 1, size => 0}),
    {ok, Stats} = sockpool:stats(?MODULE),
    ok = sockpool:stop_pool(?MODULE),
    ?assertEqual(lists:sort(maps:keys(Stats) -- Gauges),
                 lists:sort([list_to_atom(plain(Key)) || [Key | _] <- table("docs/reference.md", "## Statistics")])).
