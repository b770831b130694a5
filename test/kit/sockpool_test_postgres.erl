%%% PostgreSQL with TLS, and as much of its protocol as a test needs.
-module(sockpool_test_postgres).

-export([missing/0, start/2, stop/1, log_in/1, query/2]).

-spec missing() -> [string()].
missing() -> ["postgresql" || filelib:wildcard("/usr/lib/postgresql/*/bin/postgres") =:= []].

bin(Name) -> lists:last(filelib:wildcard("/usr/lib/postgresql/*/bin/" ++ Name)).

%% With that certificate and its key. Who is not the user `nobody' is root, as which it does not run.
-spec start(file:filename(), file:filename()) -> map().
start(Cert, Key) ->
    Dir = sockpool_test_util:unix_path(),
    ok = file:make_dir(Dir),
    {ok, _} = file:copy(Cert, filename:join(Dir, "server.crt")),
    {ok, _} = file:copy(Key, filename:join(Dir, "server.key")),
    ok = file:change_mode(filename:join(Dir, "server.key"), 8#600),
    {Name, Before} = unprivileged(),
    "" = os:cmd(lists:join(" ", [case Name of "env" -> "true"; _ -> "chown -R nobody" end, Dir])),
    Said = os:cmd(lists:join(" ", ["cd", Dir, "&&", Name] ++ Before
                             ++ [bin("initdb"), "-D data -A trust -U sockpool -E UTF8 --locale=C -N && echo done"])),
    {match, _} = re:run(Said, "done\n\\z"),
    Port = sockpool_test_port:free(),
    Args = ["-D", filename:join(Dir, "data"), "-p", integer_to_list(Port), "-h", "127.0.0.1", "-k", "", "-F", "-c", "lc_messages=C",
            "-c", "ssl=on", "-c", "ssl_cert_file=" ++ filename:join(Dir, "server.crt"),
            "-c", "ssl_key_file=" ++ filename:join(Dir, "server.key")],
    Server = sockpool_test_program:start(Name, Before ++ [bin("postgres") | Args], #{cd => Dir, signal => "INT"}),
    ok = sockpool_test_program:said(Server, <<"ready to accept connections">>),
    Server#{port => Port, dir => Dir}.

unprivileged() ->
    case os:cmd("id -u") of
        "0\n" -> {"setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]};
        _ -> {"env", []}
    end.

-spec stop(map()) -> ok.
stop(#{dir := Dir} = Server) ->
    ok = sockpool_test_program:stop(Server),
    file:del_dir_r(Dir).

%%% Its messages: a type and a length, of which the length is a part. On a connection without framing.

%% What the server said of itself.
-spec log_in(sockpool:conn()) -> #{parameters := #{binary() => binary()}}.
log_in(Conn) ->
    Start = <<196608:32, "user", 0, "sockpool", 0, "database", 0, "postgres", 0, 0>>,
    ok = sockpool:send(Conn, [<<(4 + byte_size(Start)):32>>, Start]),
    Answers = until_ready(Conn, []),
    [<<0:32>>] = [Body || {$R, Body} <- Answers],
    Pairs = [binary:split(Body, <<0>>, [global]) || {$S, Body} <- Answers],
    #{parameters => maps:from_list([{Key, Value} || [Key, Value | _] <- Pairs])}.

%% The rows.
-spec query(sockpool:conn(), iodata()) -> [[binary() | null]].
query(Conn, Sql) ->
    Text = iolist_to_binary([Sql, 0]),
    ok = sockpool:send(Conn, [$Q, <<(4 + byte_size(Text)):32>>, Text]),
    Answers = until_ready(Conn, []),
    [] = [Body || {$E, Body} <- Answers],
    [columns(Columns) || {$D, <<_:16, Columns/binary>>} <- Answers].

columns(<<-1:32/signed, Rest/binary>>) -> [null | columns(Rest)];
columns(<<Length:32, Column:Length/binary, Rest/binary>>) -> [Column | columns(Rest)];
columns(<<>>) -> [].

until_ready(Conn, Before) ->
    {ok, <<Type, Length:32>>} = sockpool:recv(Conn, 5, 10000),
    {ok, Body} = case Length of 4 -> {ok, <<>>}; _ -> sockpool:recv(Conn, Length - 4, 10000) end,
    case Type of
        $Z -> lists:reverse(Before);
        _ -> until_ready(Conn, [{Type, Body} | Before])
    end.
