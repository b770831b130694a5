%%% Drivers of others as the suites use them: their servers, the options of a pool of them, a question to which only the
%%% right answer is right, and what a server and the VM have of them.
%%%
%%% `pgsql': p1_pgsql with PostgreSQL; `redis': eredis with Redis; `echo': sockpool_echo_worker with a server of the kit.
%%% The first two are of Debian packages that may be missing.
-module(sockpool_drivers).

-export([missing/1, server/1, server/2, down/1, again/1, stop/1]).
-export([options/1, ask/2, workers/1, processes/1, connections/1, refusal/1]).
-export_type([kind/0, server/0]).

-type kind() :: pgsql | redis | echo.
-type server() :: #{kind := kind(), port := inet:port_number(), _ => _}.

-define(HOST, "127.0.0.1").
-define(MAX_CONNECTIONS, "100").

%% What is not there.
-spec missing(kind()) -> [string()].
missing(pgsql) -> missing(pgsql_proto, "erlang-p1-pgsql") ++ ["postgresql" || bin("postgres") =:= none];
missing(redis) -> missing(eredis, "erlang-redis-client") ++ ["redis-server" || os:find_executable("redis-server") =:= false];
missing(echo) -> [].

missing(Module, Package) -> [Package || code:which(Module) =:= non_existing].

%%% Servers.

-spec server(kind()) -> server().
server(Kind) -> server(Kind, sockpool_test_port:free()).

%% A process of its own has it: it may outlive the one that started it, until stop/1.
-spec server(kind(), inet:port_number()) -> server().
server(Kind, Port) ->
    {Keeper, Monitor} = spawn_monitor(fun() -> keep(up(made(Kind, Port))) end),
    Keeper ! {self(), Monitor, fun(State) -> State end},
    (answer(Monitor))#{keeper => Keeper}.

%% Whoever has a connection loses it. Nobody gets another one until again/1.
-spec down(server()) -> ok.
down(Server) -> tell(Server, fun ended/1).

-spec again(server()) -> ok.
again(Server) -> tell(Server, fun up/1).

%% What it keeps is gone.
-spec stop(server()) -> ok.
stop(Server) -> tell(Server, fun removed/1).

tell(#{keeper := Keeper}, Fun) ->
    Monitor = monitor(process, Keeper),
    Keeper ! {self(), Monitor, Fun},
    _ = answer(Monitor),
    ok.

answer(Monitor) ->
    receive
        {Monitor, Answer} -> true = demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, _, Reason} -> error(Reason)
    end.

keep(State) ->
    receive
        {From, Ref, Fun} ->
            Next = Fun(State),
            From ! {Ref, Next},
            _ = Next =:= removed orelse keep(Next)
    end.

made(echo, _Port) ->
    Echo = sockpool_test_server:start(echo, #{listen => false}),
    #{kind => echo, port => sockpool_test_server:port(Echo), echo => Echo};
made(Kind, Port) ->
    Dir = sockpool_test_util:unix_path(),
    ok = file:make_dir(Dir),
    ok = prepare(Kind, Dir),
    #{kind => Kind, port => Port, dir => Dir}.

up(#{kind := echo, echo := Echo} = Server) ->
    ok = sockpool_test_server:up(Echo),
    Server;
up(#{kind := Kind} = Server) ->
    Server#{program => program(Kind, Server)}.

%% What it says when it is ready: until then it may listen, and refuse.
program(pgsql, #{port := Port, dir := Dir}) ->
    Args = ["-D", filename:join(Dir, "data"), "-p", integer_to_list(Port), "-h", ?HOST, "-k", "", "-N", ?MAX_CONNECTIONS,
            "-F", "-c", "lc_messages=C"],
    {Name, Before} = unprivileged(),
    Program = sockpool_test_program:start(Name, Before ++ [bin("postgres") | Args], #{cd => Dir, signal => "INT"}),
    ok = sockpool_test_program:said(Program, <<"ready to accept connections">>),
    Program;
program(redis, #{port := Port, dir := Dir}) ->
    Args = ["--port", integer_to_list(Port), "--bind", ?HOST, "--dir", Dir, "--save", "", "--appendonly", "no"],
    Program = sockpool_test_program:start("redis-server", Args, #{cd => Dir, signal => "KILL"}),
    ok = sockpool_test_program:said(Program, <<"eady to accept connections">>),
    Program.

ended(#{kind := echo, echo := Echo} = Server) ->
    ok = sockpool_test_server:down(Echo),
    Server;
ended(#{program := Program} = Server) ->
    ok = sockpool_test_program:stop(Program),
    maps:remove(program, Server).

removed(#{kind := echo, echo := Echo}) ->
    ok = sockpool_test_server:stop(Echo),
    removed;
removed(#{program := _} = Server) ->
    removed(ended(Server));
removed(#{dir := Dir}) ->
    ok = file:del_dir_r(Dir),
    removed.

%% PostgreSQL does not run as root.
prepare(pgsql, Dir) ->
    {Name, Before} = unprivileged(),
    "" = os:cmd(lists:join(" ", [case Name of "env" -> "true"; _ -> "chown nobody" end, Dir])),
    Said = os:cmd(lists:join(" ", ["cd", Dir, "&&", Name] ++ Before
                             ++ [bin("initdb"), "-D", "data", "-A trust -U sockpool -E UTF8 --locale=C -N && echo done"])),
    {match, _} = re:run(Said, "done\n\\z"),
    ok;
prepare(redis, _Dir) ->
    ok.

unprivileged() ->
    case os:cmd("id -u") of
        "0\n" -> {"setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]};
        _ -> {"env", []}
    end.

bin(Name) ->
    case lists:reverse(filelib:wildcard("/usr/lib/postgresql/*/bin/" ++ Name)) of
        [Newest | _] -> Newest;
        [] -> none
    end.

%%% Pools of them.

-spec options(server()) -> sockpool:options().
options(#{kind := pgsql, port := Port}) ->
    worker({pgsql_proto, [{host, ?HOST}, {port, Port}, {user, "sockpool"}, {database, "postgres"}]});
options(#{kind := redis, port := Port}) ->
    worker({eredis, [{host, ?HOST}, {port, Port}, {reconnect_sleep, no_reconnect}]});
options(#{kind := echo, port := Port}) ->
    worker({sockpool_echo_worker, {{127, 0, 0, 1}, Port}}).

worker(Start) -> #{transport => worker, worker => Start}.

%% Something that nobody else has asked. Raises where the worker ends meanwhile, or has another answer.
-spec ask(kind(), pid()) -> ok.
ask(Kind, Worker) ->
    Own = integer_to_list(erlang:unique_integer([positive])),
    ask(Kind, Worker, Own).

ask(pgsql, Worker, Own) ->
    %% The answer takes a while.
    {ok, [{_Command, _Columns, [[Own]]}]} = pgsql:squery(Worker, ["SELECT ", Own, " FROM pg_sleep(0.001)"]),
    ok;
ask(redis, Worker, Own) ->
    {ok, <<"OK">>} = eredis:q(Worker, ["SET", Own, Own]),
    Binary = list_to_binary(Own),
    {ok, Binary} = eredis:q(Worker, ["GET", Own]),
    ok;
ask(echo, Worker, Own) ->
    Binary = list_to_binary(Own),
    Binary = sockpool_echo_worker:echo(Worker, Binary),
    ok.

%% The reason of an attempt while the server is down.
-spec refusal(kind()) -> term().
refusal(pgsql) -> {worker, {init, {error, econnrefused}}};
refusal(redis) -> {worker, {connection_error, econnrefused}};
refusal(echo) -> {worker, econnrefused}.

%% Those of this VM.
-spec workers(kind()) -> [pid()].
workers(Kind) -> processes_of([hd(modules(Kind))]).

%% With the processes that they start.
-spec processes(kind()) -> [pid()].
processes(Kind) -> processes_of(modules(Kind)).

processes_of(Modules) ->
    [Pid || Pid <- processes(), lists:member(element(1, proc_lib:translate_initial_call(Pid)), Modules)].

modules(pgsql) -> [pgsql_proto, pgsql_socket];
modules(redis) -> [eredis_client];
modules(echo) -> [sockpool_echo_worker].

%% What the server has, but for the one that asks.
-spec connections(server()) -> non_neg_integer().
connections(#{kind := echo, echo := Echo}) ->
    sockpool_test_server:live(Echo);
connections(#{kind := Kind} = Server) ->
    #{worker := {Module, Args}} = options(Server),
    {ok, Worker} = Module:start_link(Args),
    true = unlink(Worker),
    Count = connections(Kind, Worker),
    %% Not by pgsql:terminate/1, after which a process of it is there for ever.
    ok = gen_server:stop(Worker, shutdown, infinity),
    Count - 1.

connections(pgsql, Worker) ->
    {ok, [{_, _, [[Count]]}]} =
        pgsql:squery(Worker, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
    list_to_integer(Count);
connections(redis, Worker) ->
    {ok, Lines} = eredis:q(Worker, ["CLIENT", "LIST"]),
    length(binary:split(Lines, <<"\n">>, [global, trim_all])).
