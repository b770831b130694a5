%%% The other ends for sockpool_tls_SUITE: certificates made by the openssl program, and servers:
%%% OTP's ssl, `openssl s_server', stunnel, nginx, and a proxy that spoils what a server says.
-module(sockpool_tls_peers).

-export([certificates/1, file/2, der/1]).
-export([ssl_server/1, ssl_server/2, port/1, stop/1, close_connections/1, tell/2]).
-export([s_server/1, command/2, output/1, output_has/2, stunnel/3, stunnel/4, nginx/2, config/3]).
-export([proxy/1, spoil/2]).

-import(sockpool_test_program, [listening/1]).

%%% Certificates.

%% Into the directory: an authority, another one, and what each case needs.
-spec certificates(file:filename()) -> ok.
certificates(Dir) ->
    authority(Dir, "ca"),
    authority(Dir, "other_ca"),
    Local = "DNS:localhost,IP:127.0.0.1",
    signed(Dir, "server", "ca", Local, "-days 30"),
    signed(Dir, "renewed", "ca", Local, "-days 30"),
    signed(Dir, "elsewhere", "ca", "DNS:elsewhere.example,IP:10.9.8.7", "-days 30"),
    signed(Dir, "expired", "ca", Local, "-days 0"),
    signed(Dir, "client", "ca", "DNS:client", "-days 30"),
    run(Dir, "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 30 "
        "-keyout self.key -out self.pem -subj /CN=localhost -addext 'subjectAltName=~s'", [Local]),
    run(Dir, "openssl ec -aes128 -passout pass:open-sesame -in client.key -out client.enc.key", []).

authority(Dir, Name) ->
    run(Dir, "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 30 "
        "-keyout ~s.key -out ~s.pem -subj /CN=~s", [Name, Name, Name]).

signed(Dir, Name, Ca, Names, Days) ->
    ok = file:write_file(filename:join(Dir, Name ++ ".ext"), "subjectAltName=" ++ Names),
    run(Dir, "openssl req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        "-keyout ~s.key -out ~s.csr -subj /CN=~s", [Name, Name, Name]),
    run(Dir, "openssl x509 -req -in ~s.csr -CA ~s.pem -CAkey ~s.key -CAcreateserial ~s "
        "-extfile ~s.ext -out ~s.pem", [Name, Ca, Ca, Days, Name, Name]).

run(Dir, Format, Args) ->
    Command = lists:flatten(io_lib:format(Format, Args)),
    Shell = os:find_executable("sh"),
    Port = open_port({spawn_executable, Shell},
                     [{args, ["-c", Command]}, {cd, Dir}, exit_status, stderr_to_stdout, binary]),
    finished(Port, Command, <<>>).

finished(Port, Command, Said) ->
    receive
        {Port, {data, Data}} -> finished(Port, Command, <<Said/binary, Data/binary>>);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, _}} -> error({failed, Command, Said})
    end.

-spec file(file:filename(), string()) -> file:filename().
file(Dir, Name) -> filename:join(Dir, Name).

-spec der(file:filename()) -> binary().
der(Path) ->
    {ok, Pem} = file:read_file(Path),
    [{'Certificate', Der, not_encrypted} | _] = public_key:pem_decode(Pem),
    Der.

%%% OTP's ssl: an echo server.

-spec ssl_server([ssl:tls_server_option()]) -> map().
ssl_server(Options) -> ssl_server(Options, echo).

%% `silent': reads nothing. It stops with the process that started it.
-spec ssl_server([ssl:tls_server_option()], echo | silent) -> map().
ssl_server(Options, Behaviour) ->
    Parent = self(),
    Pid = spawn_link(fun() ->
        {ok, Listener} = ssl:listen(0, [binary, {active, false}, {backlog, 1000},
                                        {ip, {127, 0, 0, 1}}, {log_level, none} | Options]),
        {ok, {_, Port}} = ssl:sockname(Listener),
        Self = self(),
        [spawn_link(fun() -> accept(Listener, Self, Behaviour) end) || _ <- lists:seq(1, 8)],
        Parent ! {self(), Port},
        serve(Listener, #{})
    end),
    receive {Pid, Port} -> #{pid => Pid, port => Port} end.

accept(Listener, Server, Behaviour) ->
    {ok, Accepted} = ssl:transport_accept(Listener),
    Pid = spawn(fun() ->
        receive go -> ok end,
        case ssl:handshake(Accepted) of
            {ok, Socket} ->
                Server ! {up, self(), Socket},
                talk(Behaviour, Socket),
                Server ! {down, self()};
            {error, _} ->
                ok
        end
    end),
    ok = ssl:controlling_process(Accepted, Pid),
    Pid ! go,
    accept(Listener, Server, Behaviour).

talk(echo, Socket) ->
    case ssl:recv(Socket, 0) of
        {ok, Data} ->
            _ = ssl:send(Socket, Data),
            talk(echo, Socket);
        {error, _} ->
            ok
    end;
talk(silent, _Socket) ->
    receive after infinity -> ok end.

serve(Listener, Sockets) ->
    receive
        {up, Pid, Socket} ->
            serve(Listener, Sockets#{Pid => Socket});
        {down, Pid} ->
            serve(Listener, maps:remove(Pid, Sockets));
        {From, each, Fun} ->
            From ! {self(), [Fun(Socket) || Socket <- maps:values(Sockets)]},
            serve(Listener, Sockets);
        {From, close} ->
            [begin _ = (catch ssl:close(Socket)), exit(Pid, kill) end || {Pid, Socket} <- maps:to_list(Sockets)],
            From ! {self(), ok},
            serve(Listener, #{});
        {From, stop} ->
            [exit(Pid, kill) || Pid <- maps:keys(Sockets)],
            _ = ssl:close(Listener),
            From ! {self(), ok}
    end.

-spec port(map()) -> inet:port_number().
port(#{port := Port}) -> Port.

%% What the fun returns for each connection that the server has.
-spec tell(map(), fun((ssl:sslsocket()) -> term())) -> [term()].
tell(#{pid := Pid}, Fun) -> ask(Pid, {self(), each, Fun}).

%% In one turn of the server: one that comes meanwhile, in place of those, stays.
-spec close_connections(map()) -> ok.
close_connections(#{pid := Pid}) -> ask(Pid, {self(), close}).

ask(Pid, Request) ->
    Pid ! Request,
    receive {Pid, Answer} -> Answer end.

%% Any of the servers here.
-spec stop(map()) -> ok.
stop(#{program := _} = Server) ->
    sockpool_test_program:stop(Server);
stop(#{pid := Pid}) ->
    unlink(Pid),
    _ = ask(Pid, {self(), stop}),
    ok.

%%% Programs.

%% One connection at a time. What it is told by command/2 it does, or says to its client.
-spec s_server([string()]) -> map().
s_server(Args) ->
    Port = sockpool_test_port:free(),
    Server = sockpool_test_program:start("openssl", ["s_server", "-accept", "127.0.0.1:" ++ integer_to_list(Port) | Args]),
    ok = output_has(Server, <<"ACCEPT">>),
    Server#{port => Port}.

-spec command(map(), iodata()) -> ok.
command(#{program := Port}, Line) ->
    true = port_command(Port, Line),
    ok.

%% What it has said since the last call.
-spec output(map()) -> binary().
output(#{program := Port}) ->
    receive {Port, {data, Data}} -> Data after 0 -> <<>> end.

%% Waits until it has said this, from now on.
-spec output_has(map(), binary()) -> ok.
output_has(Server, Part) -> sockpool_test_program:said(Server, Part).

%% In front of a plain server.
-spec stunnel(file:filename(), string(), inet:port_number()) -> map().
stunnel(Dir, Cert, To) -> stunnel(Dir, Cert, To, "").

%% With more options of the service, such as "protocol = smtp", which begins in clear.
-spec stunnel(file:filename(), string(), inet:port_number(), iodata()) -> map().
stunnel(Dir, Cert, To, Options) ->
    Port = sockpool_test_port:free(),
    Path = config(Dir, "stunnel_" ++ integer_to_list(Port) ++ ".conf",
                  ["foreground = yes\npid =\n[echo]\n",
                   io_lib:format("accept = 127.0.0.1:~b\nconnect = 127.0.0.1:~b\n", [Port, To]),
                   io_lib:format("cert = ~s\nkey = ~s\n",
                                 [file(Dir, Cert ++ ".pem"), file(Dir, Cert ++ ".key")]),
                   Options]),
    Server = sockpool_test_program:start("stunnel4", [Path]),
    ok = output_has(Server, <<"Configuration successful">>),
    listening(Server#{port => Port}).

%% Answers each HTTP request with "hello".
-spec nginx(file:filename(), string()) -> map().
nginx(Dir, Cert) ->
    Port = sockpool_test_port:free(),
    Path = config(Dir, "nginx.conf",
                  ["daemon off;\nmaster_process off;\nerror_log stderr;\n",
                   io_lib:format("pid ~s;\n", [file(Dir, "nginx.pid")]),
                   "events { }\nhttp {\naccess_log off;\n",
                   [io_lib:format("~s_temp_path ~s;\n", [What, file(Dir, What)])
                    || What <- ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]],
                   "server {\nkeepalive_requests 100000;\n",
                   io_lib:format("listen 127.0.0.1:~b ssl http2;\n", [Port]),
                   io_lib:format("ssl_certificate ~s;\nssl_certificate_key ~s;\n",
                                 [file(Dir, Cert ++ ".pem"), file(Dir, Cert ++ ".key")]),
                   "ssl_protocols TLSv1.2 TLSv1.3;\n",
                   "location / { return 200 \"hello\"; }\n}\n}\n"]),
    listening((sockpool_test_program:start("nginx", ["-p", Dir, "-c", Path]))#{port => Port}).

-spec config(file:filename(), string(), iodata()) -> file:filename().
config(Dir, Name, Content) ->
    Path = file(Dir, Name),
    ok = file:write_file(Path, Content),
    Path.

%%% A proxy: passes everything on, until it is told to spoil something.

-spec proxy(inet:port_number()) -> map().
proxy(To) ->
    Parent = self(),
    Pid = spawn_link(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
        {ok, Port} = inet:port(Listener),
        Parent ! {self(), Port},
        Self = self(),
        spawn_link(fun() -> proxy_accept(Listener, To, Self) end),
        proxy_serve(undefined)
    end),
    receive {Pid, Port} -> #{pid => Pid, port => Port} end.

proxy_accept(Listener, To, Proxy) ->
    {ok, Client} = gen_tcp:accept(Listener),
    {ok, Server} = gen_tcp:connect({127, 0, 0, 1}, To, [binary, {active, false}]),
    Forth = spawn_link(fun() -> receive go -> pass(Client, Server) end end),
    Back = spawn_link(fun() -> receive go -> pass(Server, Client) end end),
    ok = gen_tcp:controlling_process(Client, Forth),
    ok = gen_tcp:controlling_process(Server, Back),
    Proxy ! {passing, Client},
    Forth ! go,
    Back ! go,
    proxy_accept(Listener, To, Proxy).

pass(From, To) ->
    case gen_tcp:recv(From, 0) of
        {ok, Data} ->
            _ = gen_tcp:send(To, Data),
            pass(From, To);
        {error, _} ->
            _ = gen_tcp:shutdown(To, write),
            receive after infinity -> ok end
    end.

proxy_serve(Client) ->
    receive
        {passing, Next} ->
            proxy_serve(Next);
        {From, spoil, Fun} ->
            From ! {self(), Fun(Client)},
            proxy_serve(Client);
        {From, stop} ->
            From ! {self(), ok},
            %% Takes those who accept and pass on with it.
            exit(shutdown)
    end.

%% Calls the fun with the socket towards the newest client.
-spec spoil(map(), fun((gen_tcp:socket()) -> Result)) -> Result.
spoil(#{pid := Pid}, Fun) -> ask(Pid, {self(), spoil, Fun}).
