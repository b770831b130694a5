%%% A client of SMTP, for handing mail to a server that takes it, on a pool of sockpool. docs/protocols.md says what is to be learned from it.
%%%
%%%     ok = sockpool:start_pool(mail, smtp:options(#{host => "127.0.0.1", port => 25})).
%%%     {ok, <<"OK">>} = smtp:send(mail, <<"me@here">>, [<<"you@there">>], ["Subject: Hello\r\n\r\n", Text]).
%%%
%%% What the server refuses is `{error, {Code, Text}}', such as `{550, <<"No such user">>}'; an error of the pool is
%%% `{error, Reason}' with another term. A code of 400 to 499 says: try again later.
-module(smtp).

-export([options/1, hello/2]).
-export([send/4, ask/3]).

-type reply() :: {Code :: 200..599, Text :: binary()}.
-type error() :: {error, reply() | sockpool:reason()}.

-define(TIMEOUT_MS, 5000).
%% To take a message may need work (RFC 5321, 4.5.3.2).
-define(TAKEN_MS, 60000).

%%% The pool.

%% Options of sockpool, and `name', ours for the server; `starttls', the options with which it is to be TLS.
-spec options(map()) -> sockpool:options().
options(Opts) ->
    Own = [name, starttls],
    maps:merge(#{port => 25}, (maps:without(Own, Opts))#{packet => {delimiter, <<"\r\n">>},
                                                         init => {?MODULE, hello, [maps:with(Own, Opts)]}}).

%% The server speaks first.
-spec hello(sockpool:conn(), map()) -> ok | error().
hello(Conn, Own) ->
    steps([fun() -> replied(Conn, 220, ?TIMEOUT_MS) end, fun() -> greeted(Conn, Own) end | secure(Conn, Own)]).

greeted(Conn, Own) -> ask(Conn, ["EHLO ", maps:get(name, Own, "localhost")], 250).

%% What the server has said until then does not hold any more. One that knows no TLS says 454 or 502: then there is no connection.
secure(Conn, #{starttls := Tls} = Own) ->
    [fun() -> ask(Conn, "STARTTLS", 220) end, fun() -> sockpool:starttls(Conn, Tls) end, fun() -> greeted(Conn, Own) end];
secure(_Conn, #{}) ->
    [].

steps([]) ->
    ok;
steps([Step | Steps]) ->
    case Step() of
        {error, _} = Error -> Error;
        _ -> steps(Steps)
    end.

%%% Mail.

%% To all, or to none: what one is refused is the result. An address has no brackets; the message has its head, and lines that
%% end in any way.
-spec send(sockpool:pool(), From :: binary(), To :: [binary(), ...], Message :: iodata()) -> {ok, Text :: binary()} | error().
send(Pool, From, To, Message) ->
    Steps = [{["MAIL FROM:", address(From)], 250}] ++ [{["RCPT TO:", address(Each)], 250} || Each <- To]
        ++ [{"DATA", 354}],
    Lines = lines(iolist_to_binary(Message)),
    case sockpool:execute(Pool, fun(Conn) -> sent(Conn, Steps, Lines) end) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.

sent(Conn, [], Lines) ->
    case sockpool:send(Conn, [Lines, ".\r\n"]) of
        ok -> replied(Conn, 250, ?TAKEN_MS);
        {error, _} = Error -> Error
    end;
sent(Conn, [{Command, Code} | Steps], Lines) ->
    case ask(Conn, Command, Code) of
        {ok, _} ->
            sent(Conn, Steps, Lines);
        {error, {_Code, _Text}} = Refused ->
            %% The next one begins anew. Where not even that can be had the connection is of no use.
            _ = element(1, ask(Conn, "RSET", 250)) =:= ok orelse sockpool:discard(Conn),
            Refused;
        {error, _} = Error ->
            Error
    end.

%% What is after it would be a command of its own.
address(Address) ->
    nomatch = re:run(Address, "[\\x00-\\x20<>]"),
    [$<, Address, $>].

%% No line is the dot that ends all, whatever a server takes for the end of one.
lines(Message) ->
    [[dotted(Line), "\r\n"] || Line <- binary:split(Message, [<<"\r\n">>, <<"\n">>, <<"\r">>], [global])].

dotted(<<$., _/binary>> = Line) -> [$., Line];
dotted(Line) -> Line.

%%% Commands and replies.

%% `Code' is the one that is hoped for.
-spec ask(sockpool:conn(), iodata(), 200..399) -> {ok, Text :: binary()} | error().
ask(Conn, Command, Code) ->
    case sockpool:send(Conn, [Command, "\r\n"], ?TIMEOUT_MS) of
        ok -> replied(Conn, Code, ?TIMEOUT_MS);
        {error, _} = Error -> Error
    end.

%% `250-one', `250-two', `250 three': the last one has no dash.
replied(Conn, Code, Timeout) ->
    case sockpool:recv_until(Conn, fun(<<_:3/binary, After, _/binary>>) -> After =/= $- end, Timeout) of
        {ok, Lines} ->
            Text = iolist_to_binary(lists:join($\n, [text(Line) || Line <- Lines])),
            case binary_to_integer(binary:part(hd(Lines), 0, 3)) of
                Code -> {ok, Text};
                Other -> {error, {Other, Text}}
            end;
        {error, _} = Error ->
            Error
    end.

text(<<_Code:3/binary, _After, Line/binary>>) -> string:trim(Line, trailing).
