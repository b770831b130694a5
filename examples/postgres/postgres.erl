%%% A client of PostgreSQL (protocol 3, SCRAM-SHA-256) on a pool of sockpool. docs/protocols.md says what is to be learned from it.
%%%
%%%     ok = sockpool:start_pool(db, postgres:options(#{host => "db1", user => "me", password => fun secrets:db/0})).
%%%     {ok, #{rows := [[<<"3">>]]}} = postgres:query(db, "SELECT $1::int + $2", [1, 2]).
%%%
%%% Values are binaries as PostgreSQL writes them as text, and `null'. What it refuses is `{error, {SqlState, Message}}', two
%%% binaries; an error of the pool is `{error, Reason}' with another term.
-module(postgres).

-export([options/1, hello/2]).
-export([query/2, query/3, query/4, squery/2, transaction/2]).
-export([ask/3, ask/4]).
-export_type([result/0, error/0]).

-type param() :: iodata() | integer() | float() | boolean() | null.
-type result() :: #{columns := [binary()], rows := [[binary() | null]], tag := binary()}.
-type error() :: {error, {SqlState :: binary(), Message :: binary()} | sockpool:reason() | copy | in_transaction}.

-define(TIMEOUT_MS, 5000).
-define(PROTOCOL, 3:16, 0:16).
%% What a server may have us compute: PostgreSQL says 4096.
-define(ITERATIONS_MAX, 1000000).
%% Of one connection. Statements that come later are parsed each time.
-define(PREPARED_MAX, 200).

%%% The pool.

%% Options of sockpool, and `user', `password' (or a fun that returns it), `database' (the user's name), `parameters' such as
%% #{application_name => "mine", statement_timeout => 5000}; `tls', the options with which it is to be TLS.
-spec options(map()) -> sockpool:options().
options(Opts) ->
    Own = [user, password, database, parameters, tls],
    maps:merge(#{port => 5432}, (maps:without(Own, Opts))#{packet => {length, #{offset => 1, adjust => -4}},
                                                           init => {?MODULE, hello, [maps:with(Own, Opts)]}}).

%% On each new connection. Its state is the names of the statements that are prepared on it.
-spec hello(sockpool:conn(), map()) -> {ok, map()} | error().
hello(Conn, #{tls := Tls} = Own) ->
    case secured(Conn, Tls) of
        ok -> begun(Conn, Own);
        {error, _} = Error -> Error
    end;
hello(Conn, Own) ->
    begun(Conn, Own).

%% In clear only this, and an answer of one byte: what came behind it would be somebody else's, and starttls/2 refuses it.
secured(Conn, Tls) ->
    case sockpool:send(Conn, <<8:32, 80877103:32>>, ?TIMEOUT_MS) of
        ok ->
            case sockpool:recv(Conn, 1, ?TIMEOUT_MS) of
                {ok, <<"S">>} -> sockpool:starttls(Conn, Tls);
                {ok, _No} -> {error, no_tls};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

begun(Conn, #{user := User} = Own) ->
    Parameters = maps:merge(#{user => User, database => maps:get(database, Own, User), client_encoding => "UTF8"},
                            maps:get(parameters, Own, #{})),
    Text = [[string(atom_to_binary(Key)), string(text(Value))] || {Key, Value} <- maps:to_list(Parameters)],
    %% The one message without a kind before its length.
    Start = [<<?PROTOCOL>>, Text, 0],
    case sockpool:send(Conn, [<<(4 + iolist_size(Start)):32>>, Start], ?TIMEOUT_MS) of
        ok -> authenticated(Conn, Own);
        {error, _} = Error -> Error
    end.

authenticated(Conn, Own) ->
    case sockpool:recv(Conn, packet, ?TIMEOUT_MS) of
        {ok, <<$R, _:32, 0:32>>} -> ready(Conn);
        {ok, <<$R, _:32, 10:32, Mechanisms/binary>>} -> scram(Conn, Mechanisms, Own);
        {ok, <<$R, _:32, Kind:32, _/binary>>} -> {error, {authentication, Kind}};
        {ok, <<$E, _:32, Fields/binary>>} -> {error, reason(Fields)};
        {ok, <<$N, _/binary>>} -> authenticated(Conn, Own);
        {error, _} = Error -> Error
    end.

%% What the server says of itself comes before.
ready(Conn) ->
    case answer(Conn, ?TIMEOUT_MS) of
        {_Status, {ok, _Nothing}} -> {ok, #{}};
        {_Status, {error, _} = Error} -> Error
    end.

%%% SCRAM-SHA-256 (RFC 5802, 7677), without a binding to the channel.

scram(Conn, Mechanisms, Own) ->
    case lists:member(<<"SCRAM-SHA-256">>, binary:split(Mechanisms, <<0>>, [global])) of
        true ->
            Bare = <<"n=,r=", (base64:encode(crypto:strong_rand_bytes(18)))/binary>>,
            First = <<"n,,", Bare/binary>>,
            case said(Conn, [string("SCRAM-SHA-256"), <<(byte_size(First)):32>>, First], 11) of
                {ok, Challenge} -> proved(Conn, Bare, Challenge, password(Own));
                {error, _} = Error -> Error
            end;
        false ->
            {error, {authentication, Mechanisms}}
    end.

password(#{password := Password}) when is_function(Password, 0) -> iolist_to_binary(Password());
password(#{password := Password}) -> iolist_to_binary(Password);
password(#{}) -> <<>>.

proved(Conn, <<"n=,r=", Nonce/binary>> = Bare, Challenge, Password) ->
    [<<"r=", Both/binary>>, <<"s=", Salt/binary>>, <<"i=", Count/binary>> | _] = binary:split(Challenge, <<",">>, [global]),
    Iterations = binary_to_integer(Count),
    true = Iterations =< ?ITERATIONS_MAX,
    %% It answers us, and nobody else.
    {0, _} = binary:match(Both, Nonce),
    Salted = crypto:pbkdf2_hmac(sha256, Password, base64:decode(Salt), Iterations, 32),
    Final = <<"c=biws,r=", Both/binary>>,
    All = [Bare, $,, Challenge, $,, Final],
    ClientKey = hmac(Salted, "Client Key"),
    Proof = crypto:exor(ClientKey, hmac(crypto:hash(sha256, ClientKey), All)),
    Signature = base64:encode(hmac(hmac(Salted, "Server Key"), All)),
    case said(Conn, [Final, ",p=", base64:encode(Proof)], 12) of
        %% It knows the password, too.
        {ok, <<"v=", Signature:(byte_size(Signature))/binary, _/binary>>} -> authenticated(Conn, #{});
        {ok, _Other} -> {error, not_the_server};
        {error, _} = Error -> Error
    end.

hmac(Key, Data) -> crypto:mac(hmac, sha256, Key, Data).

said(Conn, Data, Kind) ->
    case sockpool:send(Conn, message($p, Data), ?TIMEOUT_MS) of
        ok ->
            case sockpool:recv(Conn, packet, ?TIMEOUT_MS) of
                {ok, <<$R, _:32, Kind:32, Answer/binary>>} -> {ok, Answer};
                {ok, <<$E, _:32, Fields/binary>>} -> {error, reason(Fields)};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%%% Queries. Each is several messages and has several for an answer: a lease.

-spec query(sockpool:pool(), iodata()) -> {ok, result()} | error().
query(Pool, Sql) -> query(Pool, Sql, []).

%% One statement, with $1, $2 for what is given beside.
-spec query(sockpool:pool(), iodata(), [param()]) -> {ok, result()} | error().
query(Pool, Sql, Params) -> query(Pool, Sql, Params, ?TIMEOUT_MS).

-spec query(sockpool:pool(), iodata(), [param()], timeout()) -> {ok, result()} | error().
query(Pool, Sql, Params, Timeout) -> one(leased(Pool, fun(Conn) -> extended(Conn, Sql, Params, Timeout) end)).

%% Several statements with semicolons between, nothing beside: up to the first that is refused.
-spec squery(sockpool:pool(), iodata()) -> {ok, [result()]} | error().
squery(Pool, Sql) -> leased(Pool, fun(Conn) -> asked(Conn, message($Q, string(Sql)), ?TIMEOUT_MS) end).

%% What the fun does by ask/3 is done where it returns {commit, Result}, and not where it returns {rollback, Result} or raises.
-spec transaction(sockpool:pool(), fun((sockpool:conn()) -> {commit | rollback, Result})) -> {ok, Result} | error().
transaction(Pool, Fun) ->
    leased(Pool, fun(Conn) ->
                         case extended(Conn, "BEGIN", [], ?TIMEOUT_MS) of
                             {$T, {ok, _}} ->
                                 {How, Result} = Fun(Conn),
                                 {Status, Ended} = extended(Conn, string:uppercase(atom_to_list(How)), [], ?TIMEOUT_MS),
                                 {Status, ended(How, Ended, Result)};
                             {_Status, {error, _}} = Refused ->
                                 Refused
                         end
                 end).

%% After a statement that was refused COMMIT is a rollback, and says so.
ended(commit, {ok, [#{tag := <<"COMMIT">>}]}, Result) -> {ok, Result};
ended(commit, {ok, [#{tag := <<"ROLLBACK">>}]}, _Result) -> {error, {<<"25P02">>, <<"a statement was refused: rolled back">>}};
ended(rollback, {ok, _}, Result) -> {ok, Result};
ended(_How, {error, _} = Error, _Result) -> Error.

%% In a transaction.
-spec ask(sockpool:conn(), iodata(), [param()]) -> {ok, result()} | error().
ask(Conn, Sql, Params) -> ask(Conn, Sql, Params, ?TIMEOUT_MS).

-spec ask(sockpool:conn(), iodata(), [param()], timeout()) -> {ok, result()} | error().
ask(Conn, Sql, Params, Timeout) -> one(element(2, extended(Conn, Sql, Params, Timeout))).

one({ok, [Result]}) -> {ok, Result};
one({error, _} = Error) -> Error.

%% The fun returns what the server is at, too: in a transaction (T, E) a connection is of no use to the next one.
leased(Pool, Fun) ->
    Checked = fun(Conn) ->
                      {Status, Result} = Fun(Conn),
                      Status =:= $I orelse sockpool:discard(Conn),
                      {Status, Result}
              end,
    case sockpool:execute(Pool, Checked) of
        {ok, {$T, {ok, _}}} -> {error, in_transaction};
        {ok, {_Status, Result}} -> Result;
        {error, _} = Error -> Error
    end.

%%% Statements, prepared once for each connection: the server then need not parse and plan them again.

extended(Conn, Sql, Params, Timeout) ->
    Text = iolist_to_binary(Sql),
    Name = base64:encode(crypto:hash(sha256, Text)),
    case sockpool:state(Conn) of
        {ok, #{Name := prepared} = Prepared} ->
            case asked(Conn, executed(Name, Params), Timeout) of
                %% Somebody has dropped it, or has changed a table. Nothing was done.
                {$I, {error, {Gone, _}}} when Gone =:= <<"26000">>; Gone =:= <<"0A000">> ->
                    prepared(Conn, Name, Text, Params, Timeout, maps:remove(Name, Prepared));
                Answer ->
                    Answer
            end;
        {ok, Prepared} when map_size(Prepared) < ?PREPARED_MAX; is_map_key(Name, Prepared) ->
            prepared(Conn, Name, Text, Params, Timeout, Prepared);
        {ok, _Full} ->
            asked(Conn, [parsed("", Text), executed("", Params)], Timeout);
        {error, _} = Error ->
            {broken, Error}
    end.

%% If it is refused, the server may have it or not. It counts, and the next time it is closed first: to close what is not there is no fault.
prepared(Conn, Name, Text, Params, Timeout, Prepared) ->
    case asked(Conn, [message($C, [$S, Name, 0]), parsed(Name, Text), executed(Name, Params)], Timeout) of
        {_Status, {ok, _}} = Answer ->
            ok = sockpool:set_state(Conn, Prepared#{Name => prepared}),
            Answer;
        {_Status, {error, _}} = Refused ->
            ok = sockpool:set_state(Conn, Prepared#{Name => refused}),
            Refused
    end.

parsed(Name, Text) -> message($P, [Name, 0, string(Text), <<0:16>>]).

%% All at once: whatever is refused, the server goes on at Sync and says that it is ready.
executed(Name, Params) ->
    Given = [text(Param) || Param <- Params],
    [message($B, [0, Name, 0, <<0:16, (length(Given)):16>>, [value(Each) || Each <- Given], <<0:16>>]),
     message($D, [$P, 0]), message($E, [0, <<0:32>>]), message($S, [])].

%%% Messages.

message(Kind, Data) -> [Kind, <<(4 + iolist_size(Data)):32>>, Data].

%% Ends with a 0: so there is none in it.
string(Text) ->
    Binary = iolist_to_binary(Text),
    nomatch = binary:match(Binary, <<0>>),
    [Binary, 0].

text(null) -> null;
text(Value) when is_atom(Value) -> atom_to_binary(Value);
text(Value) when is_integer(Value) -> integer_to_binary(Value);
text(Value) when is_float(Value) -> float_to_binary(Value, [short]);
text(Value) -> Value.

value(null) -> <<-1:32>>;
value(Text) -> [<<(iolist_size(Text)):32>>, Text].

%% What the server is at afterwards (`broken' where that is not known), and a result for each statement.
asked(Conn, Data, Timeout) ->
    case sockpool:send(Conn, Data, Timeout) of
        ok -> answer(Conn, Timeout);
        {error, _} = Error -> {broken, Error}
    end.

answer(Conn, Timeout) ->
    case sockpool:recv_until(Conn, fun is_last/1, Timeout) of
        {ok, Messages} -> results(Messages, #{}, []);
        {error, _} = Error -> {broken, Error}
    end.

%% It waits for what is to be copied (G), or is ready.
is_last(<<Kind, _/binary>>) -> Kind =:= $Z orelse Kind =:= $G.

results([<<$T, _:32, _Count:16, Columns/binary>> | Rest], _None, Results) ->
    results(Rest, #{columns => columns(Columns), rows => []}, Results);
results([<<$D, _:32, _Count:16, Row/binary>> | Rest], #{rows := Rows} = Result, Results) ->
    results(Rest, Result#{rows := [row(Row) | Rows]}, Results);
results([<<$C, _:32, Tag/binary>> | Rest], Result, Results) ->
    Rows = lists:reverse(maps:get(rows, Result, [])),
    results(Rest, #{}, [#{columns => maps:get(columns, Result, []), rows => Rows, tag => hd(strings(Tag))} | Results]);
%% Nothing was asked.
results([<<$I, _/binary>> | Rest], _None, Results) ->
    results(Rest, #{}, [#{columns => [], rows => [], tag => <<>>} | Results]);
results([<<$E, _:32, Fields/binary>> | Rest], _Result, _Results) ->
    {status(lists:last([last | Rest])), {error, reason(Fields)}};
results([<<$G, _/binary>>], _None, _Results) ->
    {broken, {error, copy}};
results([<<$Z, _:32, Status>>], _None, Results) ->
    {Status, {ok, lists:reverse(Results)}};
%% That a part is done; notices; what others have notified; what is copied to us.
results([_Other | Rest], Result, Results) ->
    results(Rest, Result, Results).

%% While we log in an error is the last that is said.
status(<<$Z, _:32, Status>>) -> Status;
status(last) -> broken.

columns(<<>>) ->
    [];
columns(Columns) ->
    [Name, <<_:18/binary, Rest/binary>>] = binary:split(Columns, <<0>>),
    [Name | columns(Rest)].

row(<<>>) -> [];
row(<<-1:32/signed, Rest/binary>>) -> [null | row(Rest)];
row(<<Length:32, Value:Length/binary, Rest/binary>>) -> [Value | row(Rest)].

%% SQLSTATE and a sentence, of all that it says.
reason(Fields) ->
    Said = maps:from_list([{Field, Text} || <<Field, Text/binary>> <- strings(Fields)]),
    {maps:get($C, Said), maps:get($M, Said)}.

strings(Strings) -> binary:split(Strings, <<0>>, [global, trim_all]).
