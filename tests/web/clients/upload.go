// Uploads bytes with a key by net/http, several times over one client; prints each
// status. go run upload.go URL KEY BYTES
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	size, _ := strconv.Atoi(os.Args[3])
	for i := 0; i < 3; i++ {
		body := bytes.NewReader(make([]byte, size))
		request, _ := http.NewRequest("POST", os.Args[1], body)
		request.Header.Set("X-API-Key", os.Args[2])
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println("failed", err)
			continue
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		fmt.Println("go", response.StatusCode)
	}
}
