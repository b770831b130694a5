%%% examples/postgres against Debian's postgresql, which asks for passwords by SCRAM-SHA-256.
-module(sockpool_postgres_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([values/1, statements/1, errors/1, notices/1, copy/1, long_answers/1, parameters/1, wrong_password/1, tls/1, no_tls/1, transactions/1,
         left_in_transaction/1, late_answer/1, prepared/1, prepared_no_more/1, own_replies/1, transactions_under_load/1]).
-export([password/0]).

-import(sockpool_test_util, [settled/1, wait_until/1]).
-import(sockpool_examples, [under_load/3, assert_counted/2]).

-define(HOST, "127.0.0.1").
-define(PASSWORD, <<"open, s=same">>).
-define(SIZE, 64).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [values, statements, errors, notices, copy, long_answers, parameters, wrong_password, tls, no_tls, transactions, left_in_transaction, late_answer, prepared, prepared_no_more,
     own_replies, transactions_under_load].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    case lists:reverse(filelib:wildcard("/usr/lib/postgresql/*/bin")) of
        [] -> {skip, "not installed: postgresql"};
        [Bin | _] -> [{bin, Bin}, {dir, made(Bin)} | Config]
    end.

made(Bin) ->
    Dir = sockpool_examples:dir(),
    ok = sockpool_tls_peers:certificates(Dir),
    Key = filename:join(Dir, "server.key"),
    ok = file:change_mode(Key, 8#600),
    ok = sockpool_examples:run(Dir, ["if [ `id -u` = 0 ]; then chown nobody", Key, "; fi"]),
    ok = file:write_file(filename:join(Dir, "password"), ?PASSWORD),
    {Name, Before} = sockpool_examples:unprivileged(),
    ok = sockpool_examples:run(Dir, [Name | Before]
                               ++ [Bin ++ "/initdb -D data -A scram-sha-256 --pwfile password -U sockpool -E UTF8 --locale=C -N"]),
    Dir.

end_per_suite(Config) ->
    ok = file:del_dir_r(?config(dir, Config)),
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    {Port, Dir} = {sockpool_test_port:free(), ?config(dir, Config)},
    {Name, Before} = sockpool_examples:unprivileged(),
    Args = [?config(bin, Config) ++ "/postgres", "-D", "data", "-p", integer_to_list(Port), "-h", ?HOST, "-k", "", "-N", "100", "-F",
            "-c", "lc_messages=C"] ++ lists:append([["-c", "ssl=on", "-c", "ssl_cert_file=../server.pem", "-c", "ssl_key_file=../server.key"]
                                                     || Case =/= no_tls]),
    Program = sockpool_test_program:start(Name, Before ++ Args, #{cd => Dir, signal => "INT"}),
    ok = sockpool_test_program:said(Program, <<"ready to accept connections">>),
    [{pool, list_to_atom(lists:concat(["postgres_", Case]))}, {port, Port}, {program, Program} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_program:stop(?config(program, Config)).

password() -> ?PASSWORD.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    Server = #{host => ?HOST, port => ?config(port, Config), user => "sockpool", database => "postgres", password => fun ?MODULE:password/0},
    ok = sockpool:start_pool(Pool, postgres:options(maps:merge(Server, Opts))),
    Pool.

%%% Queries.

values(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [?assertEqual({Sent, {ok, #{columns => [<<"is">>], rows => [[Is]], tag => <<"SELECT 1">>}}},
                  {Sent, postgres:query(Pool, ["SELECT $1::", Type, " AS is"], [Sent])})
     || {Type, Sent, Is} <- [{"text", "it's", <<"it's">>}, {"text", <<>>, <<>>}, {"text", <<16#e9/utf8>>, <<16#e9/utf8>>}, {"int", 7, <<"7">>},
                             {"float8", 1.5, <<"1.5">>}, {"boolean", true, <<"t">>}, {"text", null, null}, {"bytea", "\\x00ff", <<"\\x00ff">>},
                             {"int[]", "{1,2}", <<"{1,2}">>}]],
    ?assertEqual({ok, #{columns => [<<"a">>, <<"b">>], rows => [[<<"1">>, null], [<<"2">>, <<"x">>]], tag => <<"SELECT 2">>}},
                 postgres:query(Pool, "SELECT * FROM (VALUES (1, NULL), (2, 'x')) AS t(a, b)")),
    ?assertEqual({ok, #{columns => [], rows => [], tag => <<"CREATE TABLE">>}}, postgres:query(Pool, "CREATE TEMPORARY TABLE t (n int)")),
    ?assertEqual({ok, #{columns => [], rows => [], tag => <<"INSERT 0 2">>}}, postgres:query(Pool, "INSERT INTO t VALUES ($1), ($2)", [1, 2])),
    ?assertEqual({ok, #{columns => [<<"n">>], rows => [], tag => <<"SELECT 0">>}}, postgres:query(Pool, "SELECT n FROM t WHERE n > 2")),
    ?assertEqual({ok, #{columns => [], rows => [], tag => <<>>}}, postgres:query(Pool, "")),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

statements(Config) ->
    Pool = started(Config, #{size => 1}),
    ?assertMatch({ok, [#{tag := <<"SELECT 1">>, rows := [[<<"1">>]]}, #{tag := <<"CREATE TABLE">>}, #{rows := [[<<"b">>]], columns := [<<"c">>]}]},
                 postgres:squery(Pool, "SELECT 1; CREATE TEMPORARY TABLE several (); SELECT 'b' AS c")),
    ?assertMatch({error, {<<"22012">>, <<"division by zero">>}}, postgres:squery(Pool, "SELECT 1; SELECT 1/0; SELECT 2")).

%% The next one is told nothing of it.
errors(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         ?assertMatch({error, {State, _}}, postgres:query(Pool, Sql, Params)),
         ?assertMatch({ok, #{rows := [[<<"next">>]]}}, postgres:query(Pool, "SELECT 'next'"))
     end || {State, Sql, Params} <- [{<<"42601">>, "SELEKT", []}, {<<"22012">>, "SELECT 1/0", []}, {<<"42P01">>, "SELECT * FROM no_such_table", []},
                                     {<<"22P02">>, "SELECT $1::int", ["x"]}, {<<"08P01">>, "SELECT $1", []}, {<<"42601">>, "SELECT 1; SELECT 2", []},
                                     {<<"22012">>, "SELECT 1/(3 - n) FROM generate_series(1, 5) n", []}]],
    ?assertError(_, postgres:query(Pool, ["SELECT 1", 0])),
    ?assertMatch(#{created := 2}, settled(Pool)).

notices(Config) ->
    Pool = started(Config, #{size => 1}),
    ?assertMatch({ok, #{tag := <<"DO">>}}, postgres:query(Pool, "DO $$ BEGIN RAISE NOTICE 'mind this'; END $$")),
    ?assertMatch({ok, #{tag := <<"LISTEN">>}}, postgres:query(Pool, "LISTEN news")),
    ?assertMatch({ok, #{tag := <<"NOTIFY">>}}, postgres:query(Pool, "NOTIFY news")).

%% No value of ours is waited for, for ever.
copy(Config) ->
    Pool = started(Config, #{size => 1}),
    {ok, _} = postgres:query(Pool, "CREATE TABLE copied (n int)"),
    ?assertEqual({error, copy}, postgres:squery(Pool, "COPY copied FROM STDIN")),
    ?assertMatch({ok, [#{tag := <<"COPY 0">>}]}, postgres:squery(Pool, "COPY copied TO STDOUT")).

long_answers(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, #{rows := Rows}} = postgres:query(Pool, "SELECT n FROM generate_series(1, 100000) n"),
    ?assertEqual([[integer_to_binary(N)] || N <- lists:seq(1, 100000)], Rows),
    Long = binary:copy(<<"0123456789">>, 1000000),
    ?assertMatch({ok, #{rows := [[Long]]}}, postgres:query(Pool, "SELECT $1::text", [Long])).

%%% Connections.

parameters(Config) ->
    Pool = started(Config, #{size => 3, parameters => #{application_name => "example", statement_timeout => 1234}}),
    ?assertMatch(#{created := 3, connect_failures := 0}, settled(Pool)),
    ?assertMatch({ok, #{rows := [[<<"example">>]]}}, postgres:query(Pool, "SHOW application_name")),
    ?assertMatch({ok, #{rows := [[<<"1234ms">>]]}}, postgres:query(Pool, "SHOW statement_timeout")).

%% What was wrong stands in the log and is told to everybody: the password is not.
wrong_password(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool_test_log:hear(Pool),
    _ = started(Config, #{password => <<"open barley">>, backoff => {1, 10}}),
    ?assertEqual({init, {<<"28P01">>, <<"password authentication failed for user \"sockpool\"">>}}, sockpool_test_util:unavailable(Pool)),
    receive {log, Line} -> ?assertEqual({nomatch, false}, {string:find(Line, "barley"), string:find(Line, "28P01") =:= nomatch}) end,
    ok = sockpool_test_log:forget(Pool).

%% Over a connection that begins in clear.
tls(Config) ->
    Tls = #{cacertfile => filename:join(?config(dir, Config), "ca.pem")},
    Pool = started(Config, #{tls => Tls, size => 4, max_overflow => 0}),
    ?assertMatch(#{created := 4, connect_failures := 0}, settled(Pool)),
    ?assertMatch({ok, #{rows := [[<<"t">>, <<"TLSv1.3">>]]}},
                 postgres:query(Pool, "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")),
    ?assertEqual(lists:seq(1, 100), lists:sort(sockpool_test_util:run_all([fun() ->
                                                                                   {ok, #{rows := [[Is]]}} = postgres:query(Pool, "SELECT $1::int", [N]),
                                                                                   binary_to_integer(Is)
                                                                           end || N <- lists:seq(1, 100)]))),
    ok = sockpool:stop_pool(Pool),
    _ = started(Config, #{tls => Tls#{server_name => "elsewhere.example"}, backoff => {1, 10}}),
    ?assertMatch({init, {tls, _}}, sockpool_test_util:unavailable(Pool)).

%% Nothing is said in clear but the question.
no_tls(Config) ->
    Pool = started(Config, #{tls => #{verify => none}, backoff => {1, 10}}),
    ?assertEqual({init, no_tls}, sockpool_test_util:unavailable(Pool)).

transactions(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, _} = postgres:query(Pool, "CREATE TABLE transactions (n int)"),
    Insert = fun(How, N) -> fun(Conn) -> {ok, _} = postgres:ask(Conn, "INSERT INTO transactions VALUES ($1)", [N]), {How, N} end end,
    ?assertEqual({ok, 1}, postgres:transaction(Pool, Insert(commit, 1))),
    ?assertEqual({ok, 2}, postgres:transaction(Pool, Insert(rollback, 2))),
    ?assertEqual({error, {<<"25P02">>, <<"a statement was refused: rolled back">>}},
                 postgres:transaction(Pool, fun(Conn) ->
                                                    {commit, 3} = (Insert(commit, 3))(Conn),
                                                    {error, {<<"22012">>, _}} = postgres:ask(Conn, "SELECT 1/0", []),
                                                    {error, {<<"25P02">>, _}} = postgres:ask(Conn, "SELECT 1", []),
                                                    {commit, 3}
                                            end)),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)),
    ?assertError(mine, postgres:transaction(Pool, fun(Conn) -> _ = (Insert(commit, 4))(Conn), error(mine) end)),
    ?assertMatch({ok, #{rows := [[<<"1">>]]}}, postgres:query(Pool, "SELECT n FROM transactions")).

%% The next one is in none.
left_in_transaction(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertEqual({error, in_transaction}, postgres:query(Pool, "BEGIN")),
    ?assertEqual({error, in_transaction}, postgres:squery(Pool, "SELECT 1; BEGIN")),
    ?assertMatch({error, {<<"22012">>, _}}, postgres:squery(Pool, "BEGIN; SELECT 1/0")),
    ?assertMatch({error, {<<"25P01">>, _}}, postgres:query(Pool, "SAVEPOINT here")),
    ?assertMatch(#{created := 4, closed := 3}, settled(Pool)).

late_answer(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertEqual({error, timeout}, postgres:query(Pool, "SELECT 'late' FROM pg_sleep(0.3)", [], 20)),
    ?assertMatch({ok, #{rows := [[<<"next">>]]}}, postgres:query(Pool, "SELECT 'next'")).

%%% Prepared statements.

%% Also those of many queries, and of some that are refused each time.
prepared(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [{ok, #{rows := [[Is]]}} = postgres:query(Pool, "SELECT $1::int AS once", [N]) || N <- lists:seq(1, 10), Is <- [integer_to_binary(N)]],
    [{error, {<<"22012">>, _}} = postgres:query(Pool, "SELECT 1/$1::int AS refused", [0]) || _ <- lists:seq(1, 10)],
    ?assertEqual([[<<"SELECT $1::int AS once">>], [<<"SELECT 1/$1::int AS refused">>]], known(Pool)),
    {ok, _} = postgres:query(Pool, "SELECT 1/$1::int AS refused", [1]),
    [{ok, _} = postgres:query(Pool, ["SELECT ", integer_to_list(N)]) || N <- lists:seq(1, 100)],
    [{error, {<<"22012">>, _}} = postgres:query(Pool, ["SELECT 1/0, ", integer_to_list(N)]) || N <- lists:seq(1, 300)],
    ?assertEqual(200, length(known(Pool))),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% By squery, which prepares nothing.
known(Pool) ->
    {ok, [#{rows := Rows}]} = postgres:squery(Pool, "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time"),
    Rows.

%% Whoever dropped them, or changed what they are about.
prepared_no_more(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    {ok, _} = postgres:squery(Pool, "CREATE TABLE changed (a int); INSERT INTO changed VALUES (1)"),
    Ask = fun() -> postgres:query(Pool, "SELECT * FROM changed WHERE a = $1", [1]) end,
    ?assertMatch({ok, #{columns := [<<"a">>]}}, Ask()),
    {ok, _} = postgres:squery(Pool, "DEALLOCATE ALL"),
    ?assertMatch({ok, #{columns := [<<"a">>]}}, Ask()),
    {ok, _} = postgres:squery(Pool, "ALTER TABLE changed ADD COLUMN b text"),
    ?assertMatch({ok, #{columns := [<<"a">>, <<"b">>]}}, Ask()),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%%% A thousand processes.

counted(Pool, Table, Key) ->
    case postgres:query(Pool, ["SELECT n FROM ", Table, " WHERE key = $1"], [Key]) of
        {ok, #{rows := [[N]]}} -> binary_to_integer(N);
        {ok, #{rows := []}} -> 0
    end.

add(Table) -> ["INSERT INTO ", Table, " VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = ", Table, ".n + 1 RETURNING key, n"].

own_replies(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    {ok, _} = postgres:query(Pool, "CREATE TABLE own (key text PRIMARY KEY, n int)"),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              Own = integer_to_binary(N),
                                              {ok, #{rows := [[Key, Own]]}} = postgres:query(Pool, add("own"), [Key], 60000),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> counted(Pool, "own", Key) end),
    wait_until(fun() -> connections(Pool) =:= ?SIZE end).

connections(Pool) ->
    {ok, #{rows := [[Count]]}} = postgres:query(Pool, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"),
    binary_to_integer(Count).

%% Both tables or none, whenever its owner is killed.
transactions_under_load(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    [{ok, _} = postgres:query(Pool, ["CREATE TABLE ", Table, " (key text PRIMARY KEY, n int)"]) || Table <- ["one", "two"]],
    Both = fun(Conn, Key) -> [begin {ok, #{rows := [Row]}} = postgres:ask(Conn, add(Table), [Key], 60000), Row end || Table <- ["one", "two"]] end,
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              Own = [Key, integer_to_binary(N)],
                                              {ok, [Own, Own]} = postgres:transaction(Pool, fun(Conn) -> {commit, Both(Conn, Key)} end),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> counted(Pool, "one", Key) end),
    [?assertEqual(counted(Pool, "one", Key), counted(Pool, "two", Key)) || {Key, _, _} <- Counted].
